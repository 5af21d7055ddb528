import Basics
import Jobs

/// Everything an operator decides, checked: what is in here can be used without further questions.
///
/// `load(path:environment:)` reads it from one TOML file (`device-config/*.toml` show every key); the memberwise values here are the defaults.
public struct AgentConfiguration: Sendable, Equatable {
  /// Name of this agent in topics: `[a-z0-9-]`, 1 to 32 characters.
  public var id = "gateway"
  /// First levels of every topic, such as `sterna` or `plant/sterna`.
  public var base = "sterna"
  public var logLevel = LogLevel.info

  public var mqtt = MQTT()
  public var model = Model()
  public var memory = Memory()
  public var experts = Experts()
  public var limits = Limits()
  public var journal = Journal()
  public var prefixes = Prefixes()
  public var pool = Pool()
  public var tasks: [Task] = []
  /// Whether every job's way is said on `events/job`.
  public var saysEvents = false
  /// Nil: Home Assistant is none of our business.
  public var homeAssistant: HomeAssistant?
  /// A file for node_exporter's textfile collector. Relative paths are taken from systemd's runtime directory where there is one, else from the working directory.
  public var metricsPath: String?

  public init() {}

  /// How much the agent says on stderr.
  public enum LogLevel: String, Sendable, CaseIterable { case debug, info, warning, error }

  /// The broker and the session with it.
  public struct MQTT: Sendable, Equatable {
    public enum Version: String, Sendable, CaseIterable {
      /// MQTT 5; 3.1.1 when the broker refuses it.
      case auto
      case v5 = "5"
      case v311 = "3.1.1"
    }

    public var host = "127.0.0.1"
    public var port = 1883
    /// Nil: `sterna-<agent id>`. The broker keeps the session under this name, so it must not change between restarts.
    public var clientID: String?
    public var username: String?
    public var password: Secret?
    /// Seconds between signs of life.
    public var keepAlive = 30
    public var version = Version.auto
    /// Seconds for which the broker keeps the session, with everything that arrives, while the agent is away.
    public var sessionExpiry = 7 * 86_400
    /// Topic filters of which a response topic must match at least one. Nil: `<base>/clients/+/replies/#`.
    public var responseTopics: [String]?
    /// Milliseconds until the first attempt to connect again; doubled after each failure up to `reconnectLongest`.
    public var reconnectFirst = 1_000
    public var reconnectLongest = 60_000
    public var tls: TLS?

    public init() {}
  }

  /// Transport security; all paths name PEM files.
  public struct TLS: Sendable, Equatable {
    /// Nil: the certificates of the operating system.
    public var ca: String?
    public var certificate: String?
    public var key: String?
    /// What to ask for where one port serves several protocols, such as `mqtt` on port 443.
    public var alpn: String?
    /// With a shared key there are no certificates at all.
    public var psk: SharedKey?

    public init() {}
  }

  /// A key that broker and agent both have.
  public struct SharedKey: Sendable, Equatable {
    public var identity: String
    /// Hexadecimal digits.
    public var key: Secret

    public init(identity: String, key: Secret) { (self.identity, self.key) = (identity, key) }
  }

  public struct Model: Sendable, Equatable {
    public var path = ""
    /// Nil: as many as there are cores that this process may use.
    public var threads: Int?
    /// Tokens; nil: what the model was made for, as far as the memory limit allows.
    public var context: Int?
    /// Storage of keys and values, `q8`, `f16` or `f32`; nil: `q8` under a memory limit, else `f16`.
    public var kv: String?
    /// Whether only signed models are used.
    public var requiresSignature = false
    /// The folder of the public keys of those who sign; nil: signatures are not looked at.
    public var keys: String?
    /// The folder of installed models. Relative paths are taken from the journal's folder.
    public var store = "models"
    /// From where `request/model/load` may take a model: folders and what is below them.
    public var importFolders = ["/media", "/run/media", "/mnt"]

    public init() {}
  }

  /// Experts that are read from disk as they are needed, for models that have some.
  public struct Experts: Sendable, Equatable {
    /// Bytes for them; nil: all experts where they fit under the memory limit, else what it has free.
    public var cacheBytes: Int?
    /// Threads that read them.
    public var readers = 4
    /// `direct` (past the page cache) or `buffered`; nil: whichever is faster, measured at the start.
    public var reads: String?

    public init() {}
  }

  public struct Memory: Sendable, Equatable {
    /// Bytes that the whole agent may take, page cache included; nil: no limit.
    public var limitBytes: Int?
    /// Bytes for keys and values of all running jobs together; nil: what one job at full context needs.
    public var kvBytes: Int?

    public init() {}
  }

  /// What a message or the queue may cost before the agent says no.
  public struct Limits: Sendable, Equatable {
    /// What one job may hold; `payloadBytes` among it.
    public var job = JobLimits()
    /// Jobs that wait or run, and finished ones whose result the broker does not have yet.
    public var queueJobs = 10_000
    /// Payload bytes of those.
    public var queueBytes = 64_000_000
    /// Results on their way to the broker at the same time.
    public var inFlight = 20

    public init() {}
  }

  public struct Journal: Sendable, Equatable {
    /// The SQLite file. Relative paths are taken from systemd's state directory where there is one, else from the working directory.
    public var path = "journal.sqlite"
    /// Seconds for which a finished job is remembered, so that a repeat gets the same answer.
    public var keepSeconds = 86_400
    /// The most finished jobs remembered, whatever their age.
    public var keepJobs = 20_000
    /// Bytes of the file that may be in use before jobs are refused. Remembered jobs are forgotten first.
    public var mostBytes = 256_000_000

    public init() {}
  }

  /// Where the model's work for task prompts is kept across restarts.
  public struct Prefixes: Sendable, Equatable {
    /// A folder. Relative paths are taken from the journal's folder.
    public var path = "prefixes"
    /// Bytes that its files may take together; 0 keeps them in memory only.
    public var diskBytes = 256_000_000

    public init() {}
  }

  /// Pools of agents that share jobs through the broker.
  public struct Pool: Sendable, Equatable {
    /// Of which pools this agent is a member: their jobs come on `<base>/pool/<name>/jobs/<kind>`, each to one member.
    public var names: [String] = []
    /// With so many jobs waiting or running the agent leaves its pools; it comes back when half of them are done.
    public var fullJobs = 64

    public init() {}
  }

  /// How Home Assistant learns of this agent.
  public struct HomeAssistant: Sendable, Equatable {
    /// False has Home Assistant forget the agent.
    public var isOn: Bool
    /// Its discovery prefix.
    public var prefix = "homeassistant"

    public init(isOn: Bool) { self.isOn = isOn }
  }

  /// Binds input topics to a job and an output topic, so that a gateway works without anyone writing a client.
  public struct Task: Sendable, Equatable {
    public var name: String
    /// Topic filters; wildcards allowed.
    public var inputs: [String]
    public var output: String
    /// JSON pointer (RFC 6901) to the text inside a JSON payload; nil: the whole payload is the text.
    public var text: JSONPointer?
    /// JSON pointer to an id inside a JSON payload; nil: every message is a new job.
    public var id: JSONPointer?
    /// What is asked about the text.
    public var work: Job.Work
    public var options: Job.Options
    /// Turns the scores of a classification into frequencies.
    public var calibration: Calibration?
    /// Whom it asks where this agent's model is not sure; nil: nobody.
    public var escalation: Escalation?

    public init(
      name: String, inputs: [String], output: String, text: JSONPointer? = nil, id: JSONPointer? = nil, work: Job.Work,
      options: Job.Options = Job.Options(), calibration: Calibration? = nil
    ) {
      self.name = name
      self.inputs = inputs
      self.output = output
      self.text = text
      self.id = id
      self.work = work
      self.options = options
      self.calibration = calibration
    }
  }
}

extension AgentConfiguration {
  /// The name under which the broker keeps the session.
  public var clientID: String { mqtt.clientID ?? "sterna-\(id)" }
  /// Which topics a response may go to.
  public var allowedResponseTopics: [String] { mqtt.responseTopics ?? ["\(base)/clients/+/replies/#", "\(base)/clients/+/replies"] }
}
