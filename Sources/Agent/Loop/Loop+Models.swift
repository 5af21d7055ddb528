import Basics
import Jobs

// Requests about the model: `model/load`, `model/rollback`, `model/list`.

extension Loop {
  /// Once a turn: takes note of a model that has come into place.
  func advanceModels() {
    guard let identity = models.advance() else { return }
    model = identity
    say(topics.info, info)
  }

  /// `{"model":"<name>"}` for one that `sterna model install` has brought into the agent's folder, `{"path":"/media/..."}` for one on a stick.
  func loadModel(_ request: JSONReader, reply: @escaping Models.Reply) {
    do throws(SternaError) {
      if let name = request["model"].optional {
        models.install(.staged(try name.string(bytes: 1...255)), wake: wake, reply: reply)
      } else {
        models.install(.path(try importPath(request["path"])), wake: wake, reply: reply)
      }
    } catch { reply(.failure(error)) }
  }

  /// Whoever may send requests must not be able to have the agent read any file: only those in the folders that the operator named, wherever links lead.
  private func importPath(_ reader: JSONReader) throws(SternaError) -> String {
    let text = try reader.string(bytes: 1...4096)
    let folders = configuration.model.importFolders
    guard let real = realPath(text), folders.contains(where: { real.hasPrefix((realPath($0) ?? $0) + "/") }) else {
      throw SternaError(.notFound, "there is no such file in a folder to import from", at: reader.path, expected: "a file under one of model.import: \(folders.joined(separator: ", "))")
    }
    return real
  }
}
