import Basics
import ModelFile

extension Vocabulary {
  /// Reads a hub folder: `tokenizer.json` and, where they are there, `tokenizer_config.json` and `config.json`.
  init(hubFolder path: String) throws(SternaError) {
    let file = path + "/tokenizer.json"
    do {
      self = try Vocabulary(tokenizerJSON: JSONReader(try HubFolder.json(file)))
    } catch {
      throw error.place?.hasPrefix(file) == true ? error : error.within(file)
    }
    try readEnds(path)
  }

  /// The tokens that begin and end a text: by their text from `tokenizer_config.json`, else by number from `config.json`.
  private mutating func readEnds(_ path: String) throws(SternaError) {
    func read(_ name: String) throws(SternaError) -> JSONReader {
      let file = path + "/" + name
      do {
        return JSONReader(try HubFolder.json(file))
      } catch where error.code == .io {
        return JSONReader(.null)
      }
    }
    let tokenizer = try read("tokenizer_config.json")
    let model = try read("config.json")
    func end(_ token: String, _ id: String) -> TokenID? {
      let text: String? =
        switch tokenizer[token].value {
        case .string(let text)?: text
        case .object(let object)?: if case .string(let text)? = object["content"] { text } else { nil }
        default: nil
        }
      if let text, let id = entries.firstIndex(where: { $0.text.utf8.elementsEqual(text.utf8) }) { return TokenID(id) }
      let number: Int? =
        switch model[id].value {
        case .number(let number)?: number.int
        case .array(let numbers)?: if case .number(let number)? = numbers.first { number.int } else { nil }
        default: nil
        }
      return number.flatMap { entries.indices.contains($0) ? TokenID($0) : nil }
    }
    beginOfText = end("bos_token", "bos_token_id")
    endOfText = end("eos_token", "eos_token_id")
  }
}
