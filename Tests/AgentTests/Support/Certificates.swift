import Foundation
import Testing

/// A certificate authority of the test's own, made with openssl as docs/security.md says.
struct Certificates {
  let folder: String

  init(in folder: String) throws {
    self.folder = folder
    try openssl(["req", "-x509", "-days", "30", "-subj", "/CN=Sterna test CA", "-out", self["ca.pem"], "-keyout", self["ca.key"]] + Self.newKey)
  }

  subscript(name: String) -> String { folder + "/" + name }

  /// `NAME.pem` and `NAME.key`, signed by the authority.
  func issue(_ name: String, names: String? = nil) throws {
    try openssl(
      ["req", "-subj", "/CN=\(name)", "-out", self[name + ".csr"], "-keyout", self[name + ".key"]] + Self.newKey + (names.map { ["-addext", "subjectAltName=" + $0] } ?? []))
    try openssl([
      "x509", "-req", "-days", "30", "-in", self[name + ".csr"], "-CA", self["ca.pem"], "-CAkey", self["ca.key"], "-CAcreateserial", "-copy_extensions", "copy", "-out",
      self[name + ".pem"],
    ])
  }

  private static let newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]

  private func openssl(_ arguments: [String]) throws {
    let (status, output) = try execute("/usr/bin/openssl", arguments)
    guard status == 0 else { throw Late(description: "openssl \(arguments[0]): \(output)") }
  }
}
