import Basics

// The keys for those who watch an agent: Home Assistant and Prometheus.

extension AgentConfiguration {
  static func readHomeAssistant(_ reader: JSONReader) throws(SternaError) -> HomeAssistant? {
    guard let reader = reader.optional else { return nil }
    try reader.allow(["discovery", "prefix"])
    var settings = HomeAssistant(isOn: try reader["discovery"].bool())
    if let prefix = reader["prefix"].optional { settings.prefix = try prefix.topic() }
    return settings
  }

  static func readPrometheus(_ reader: JSONReader) throws(SternaError) -> String? {
    guard let reader = reader.optional else { return nil }
    try reader.allow(["textfile"])
    let path = try reader["textfile"].string(bytes: 1...4096)
    guard path.hasSuffix(".prom") else { throw reader["textfile"].error("is not read by node_exporter", expected: "a name that ends in .prom") }
    return path
  }
}
