import Basics
import Jobs

extension AgentConfiguration {
  /// What is in force, by the names of the configuration file, for `request/config/get`. Nothing secret: of a password, whether there is one.
  var json: JSON {
    func text(_ value: String?) -> JSON { value.map { .string($0) } ?? .null }
    func number(_ value: Int?) -> JSON { value.map { .number($0) } ?? .null }
    func list(_ values: [String]) -> JSON { .array(values.map { .string($0) }) }
    return [
      "agent": ["id": .string(id), "base": .string(base), "log_level": .string(logLevel.rawValue)],
      "mqtt": [
        "host": .string(mqtt.host), "port": .number(mqtt.port), "client_id": .string(clientID), "username": text(mqtt.username), "has_password": .bool(mqtt.password != nil),
        "version": .string(mqtt.version.rawValue), "keepalive_s": .number(mqtt.keepAlive), "session_expiry_s": .number(mqtt.sessionExpiry),
        "response_topics": list(allowedResponseTopics), "reconnect_ms": .number(mqtt.reconnectFirst), "reconnect_max_ms": .number(mqtt.reconnectLongest),
        "tls": mqtt.tls.map { ["ca": text($0.ca), "certificate": text($0.certificate), "alpn": text($0.alpn), "psk_identity": text($0.psk?.identity)] } ?? .null,
      ],
      "model": ["path": .string(model.path), "threads": number(model.threads), "context": number(model.context), "kv": text(model.kv)],
      "memory": ["limit_bytes": number(memory.limitBytes), "kv_bytes": number(memory.kvBytes)],
      "limits": [
        "payload_bytes": .number(limits.job.payloadBytes), "input_bytes": .number(limits.job.inputBytes), "labels": .number(limits.job.labels),
        "fields": .number(limits.job.fields), "queue_jobs": .number(limits.queueJobs), "queue_bytes": .number(limits.queueBytes), "in_flight": .number(limits.inFlight),
      ],
      "journal": [
        "path": .string(journal.path), "keep_s": .number(journal.keepSeconds), "keep_jobs": .number(journal.keepJobs), "max_bytes": .number(journal.mostBytes),
      ],
      "prefixes": ["path": .string(prefixes.path), "disk_bytes": .number(prefixes.diskBytes)],
      "tasks": .array(
        tasks.map { ["name": .string($0.name), "kind": .string($0.work.task.rawValue), "input": list($0.inputs), "output": .string($0.output)] }),
    ]
  }
}
