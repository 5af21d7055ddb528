import Basics
import Jobs

/// What Home Assistant is told about an agent, so that it shows one device with its sensors without anyone writing configuration there: one retained message (device based
/// discovery), said again whenever Home Assistant starts.
struct HomeAssistant: Sendable {
  /// Where the device is described.
  let topic: String
  /// Where Home Assistant says that it has started; nil when it is not to be told anything.
  let birth: String?
  private let topics: Topics
  private let device: String

  /// Nil where the configuration does not speak of Home Assistant.
  init?(_ configuration: AgentConfiguration, _ topics: Topics) {
    guard let settings = configuration.homeAssistant else { return nil }
    self.topics = topics
    // Two agents may have one id under two bases; ids of devices are made of letters, digits, - and _.
    device = String(topics.own.map { $0.isASCII && ($0.isLetter || $0.isNumber) || $0 == "-" ? $0 : "_" })
    topic = "\(settings.prefix)/device/\(device)/config"
    birth = settings.isOn ? settings.prefix + "/status" : nil
  }

  /// Whether a message says that Home Assistant has started and wants to know its devices.
  func isBirth(_ message: Session.Incoming) -> Bool { message.topic == birth && message.payload.elementsEqual("online".utf8) }

  /// The description; empty to be forgotten.
  ///
  /// - Parameter gone: sensors that were described before; Home Assistant removes what is named with its platform alone.
  func description(_ configuration: AgentConfiguration, _ model: ModelIdentity, gone: some Sequence<String>) -> [UInt8] {
    guard birth != nil else { return [] }
    var components: JSON.Object = [
      "state": sensor(
        "State", "state", topics.state, "{{ value_json.state }}",
        ["device_class": "enum", "options": .array(Self.states), "json_attributes_topic": .string(topics.state)], isAlwaysThere: true),
      "problem": sensor(
        "Problem", "problem", topics.state, "{{ 'ON' if value_json.state == 'degraded' else 'OFF' }}", ["p": "binary_sensor", "device_class": "problem"]),
    ]
    for (key, name, more) in Self.figures { components[key] = sensor(name, key, topics.health, "{{ value_json.\(key) }}", more) }
    for key in gone { components[key] = ["p": "sensor"] }
    for task in configuration.tasks {
      for (key, name, template) in answers(of: task) {
        // Tasks may share an output, and answers may be errors: then the sensor stays what it is.
        let guarded = "{% if value_json.task == '\(task.name)' and value_json.status == 'ok' %}{{ \(template) }}{% else %}{{ this.state }}{% endif %}"
        components[key] = sensor(name, key, task.output, guarded, isDiagnostic: false)
      }
    }
    let json: JSON = [
      "dev": [
        "ids": .string(device), "name": .string("Sterna \(configuration.id)"), "mf": "Sterna", "mdl": .string(model.name), "sw": .string(Agent.version),
      ],
      "o": ["name": "sterna", "sw": .string(Agent.version)],
      "cmps": .object(components),
      "qos": 1,
    ]
    return json.compactBytes
  }

  private static let states: [JSON] = ["online", "degraded", "draining", "stopped", "offline"]

  /// Members of `health` that are worth a sensor.
  private static let figures: [(key: String, name: String, more: JSON.Object)] = [
    ("queue", "Waiting jobs", ["state_class": "measurement"]),
    ("unsent", "Unsent results", ["state_class": "measurement"]),
    ("done", "Answered jobs", ["state_class": "total_increasing"]),
    ("failed", "Failed jobs", ["state_class": "total_increasing"]),
    ("refused", "Refused jobs", ["state_class": "total_increasing"]),
    ("average_run_ms", "Average run time", ["state_class": "measurement", "device_class": "duration", "unit_of_measurement": "ms"]),
    ("rss_bytes", "Memory", ["state_class": "measurement", "device_class": "data_size", "unit_of_measurement": "B"]),
    ("journal_bytes", "Journal", ["state_class": "measurement", "device_class": "data_size", "unit_of_measurement": "B"]),
  ]

  /// Keys of the sensors of tasks.
  func sensors(of tasks: [AgentConfiguration.Task]) -> Set<String> { Set(tasks.flatMap { answers(of: $0).map(\.key) }) }

  /// One sensor for the label of a classification, one for each field of an extraction; none for what a schema of any shape may hold.
  private func answers(of task: AgentConfiguration.Task) -> [(key: String, name: String, template: String)] {
    switch task.work {
    case .classify:
      let template = task.options.multi ? "value_json.result.labels | join(', ')" : "value_json.result.label or 'none'"
      return [("task_\(task.name)", task.name, template)]
    case .extract(let fields):
      // The longest state that Home Assistant takes is 255 characters.
      return fields.map { ("task_\(task.name)_\($0.name)", "\(task.name) \($0.name)", "(value_json.result.fields[\(quoted($0.name))] | string)[:255]") }
    case .fill: return []
    }
  }

  private func sensor(
    _ name: String, _ key: String, _ topic: String, _ template: String, _ more: JSON.Object = JSON.Object(), isAlwaysThere: Bool = false, isDiagnostic: Bool = true
  ) -> JSON {
    var sensor: JSON.Object = [
      "p": "sensor", "name": .string(name), "unique_id": .string("\(device)_\(key)"), "state_topic": .string(topic), "value_template": .string(template),
    ]
    if isDiagnostic { sensor["entity_category"] = "diagnostic" }
    if !isAlwaysThere {
      sensor["availability_topic"] = .string(topics.state)
      sensor["availability_template"] = "{{ 'offline' if value_json.state in ['offline', 'stopped'] else 'online' }}"
    }
    for (name, value) in more.members { sensor[name] = value }
    return .object(sensor)
  }

  /// A text as Jinja writes it.
  private func quoted(_ text: String) -> String {
    var result = "'"
    for scalar in text.unicodeScalars {
      switch scalar {
      case "'", "\\": result += "\\\(scalar)"
      case _ where scalar.value < 0x20 || scalar == "{" || scalar == "%" || scalar == "}": result += "\\x" + hexadecimal([UInt8(scalar.value)])
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result + "'"
  }
}
