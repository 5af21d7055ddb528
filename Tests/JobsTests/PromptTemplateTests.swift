import Basics
import Jobs
import Testing

@Suite struct PromptTemplateTests {
  static let valid =
    #"{"classify":{"prompt":"<|classify|>{{labels}}<|text|>{{text}}<|answer|>","item":"{{name}}","separator":"|","names":"words","stop":"<|end|>"},"extract":{"prompt":"<|extract|>{{fields}}<|text|>{{text}}<|answer|>","separator":"|","stop":"<|end|>"}}"#

  @Test func thePocketTemplateIsWhatTrainingUses() throws {
    #expect(try PromptTemplate.parse(Self.valid) == PromptTemplate.builtIn(named: "pocket"))
  }

  @Test func everyBuiltInTemplateReadsBack() throws {
    for name in PromptTemplate.builtInNames {
      let template = try #require(PromptTemplate.builtIn(named: name))
      #expect(try PromptTemplate.parse(template.json.compactBytes) == template)
    }
    #expect(PromptTemplate.builtIn(named: "nonesuch") == nil)
  }

  @Test(arguments: [
    ("{{labels}}", "{{fields}}", "classify.prompt"), ("{{labels}}", "{{labels}}{{labels}}", "classify.prompt"),
    ("<|classify|>{{labels}}<|text|>{{text}}", "<|classify|>{{text}}{{labels}}", "classify.prompt"), ("{{text}}<|answer|>\",\"item", "{{text\",\"item", "classify.prompt"),
    ("<|answer|>\",\"item", "{{now}}\",\"item", "classify.prompt"), ("<|answer|>\",\"item", "{{bos}}\",\"item", "classify.prompt"),
    (#""item":"{{name}}""#, #""item":"name""#, "classify.item"), (#""names":"words""#, #""names":"upper""#, "classify.names"),
    (#""names":"words","#, #""names":"words","jinja":"x","#, "classify.jinja"), (#""separator":"|","stop""#, #""separator":7,"stop""#, "extract.separator"),
    (#""item":"{{name}}""#, #""described":"{{name}}""#, "classify.described"), (#","stop":"<|end|>"}}"#, "}}", "extract.stop"),
    (#""extract""#, #""extrakt""#, "extrakt"), (#""names":"words","#, #""names":"words","contextual":1,"#, "classify.contextual"),
    (#""names":"words","#, #""names":"words","multi":{"contrast":""},"#, "classify.multi.contrast"), (#""names":"words","#, #""names":"words","multi":{"contrast":"x","yes":"y"},"#, "classify.multi.yes"),
    (#""names":"words","#, #""names":"words","multi":{"prompt":"{{label}}{{text}}","yes":"y","no":"n"},"#, "classify.multi.prompt"),
    (#""names":"words","#, #""names":"words","multi":{"prompt":"{{text}}{{label}}","no":"n"},"#, "classify.multi.yes"),
    (#""names":"words","#, #""names":"words","multi":{"prompt":"{{text}}{{label}}","described":"{{name}}","yes":"y","no":"n"},"#, "classify.multi.described"),
    (#""separator":"|","stop""#, #""separator":"|","multi":{"contrast":"x"},"stop""#, "extract.multi"),
  ])
  func aWrongTemplateNamesThePlace(old: String, new: String, place: String) {
    let text = replaceFirst(old, by: new, in: Self.valid)
    do {
      _ = try PromptTemplate.parse(text)
      Issue.record("accepted \(text)")
    } catch {
      #expect(error.place == place)
      #expect(error.code == .badField)
    }
  }

  private func replaceFirst(_ old: String, by new: String, in text: String) -> String {
    guard let range = text.firstRange(of: old) else { return text }
    return text.replacingCharacters(range, new)
  }
}

extension String {
  fileprivate func replacingCharacters(_ range: Range<Index>, _ new: String) -> String { String(self[..<range.lowerBound]) + new + String(self[range.upperBound...]) }
}
