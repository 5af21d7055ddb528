import Basics
import Jobs

extension AgentConfiguration {
  /// What is in force, by the names of the configuration file, for `request/config/get`. Nothing secret: of a password, whether there is one.
  var json: JSON {
    func text(_ value: String?) -> JSON { value.map { .string($0) } ?? .null }
    func number(_ value: Int?) -> JSON { value.map { .number($0) } ?? .null }
    func list(_ values: [String]) -> JSON { .array(values.map { .string($0) }) }
    return [
      "agent": ["id": .string(id), "base": .string(base), "log_level": .string(logLevel.rawValue), "events": .bool(saysEvents)],
      "mqtt": [
        "host": .string(mqtt.host), "port": .number(mqtt.port), "client_id": .string(clientID), "username": text(mqtt.username), "has_password": .bool(mqtt.password != nil),
        "version": .string(mqtt.version.rawValue), "keepalive_s": .number(mqtt.keepAlive), "session_expiry_s": .number(mqtt.sessionExpiry),
        "response_topics": list(allowedResponseTopics), "reconnect_ms": .number(mqtt.reconnectFirst), "reconnect_max_ms": .number(mqtt.reconnectLongest),
        "tls": mqtt.tls.map { ["ca": text($0.ca), "certificate": text($0.certificate), "alpn": text($0.alpn), "psk_identity": text($0.psk?.identity)] } ?? .null,
      ],
      "model": [
        "path": .string(model.path), "threads": number(model.threads), "context": number(model.context), "kv": text(model.kv),
        "require_signature": .bool(model.requiresSignature), "keys": text(model.keys), "store": .string(model.store), "import": list(model.importFolders),
      ],
      "memory": ["limit_bytes": number(memory.limitBytes), "kv_bytes": number(memory.kvBytes)],
      "experts": ["cache_bytes": number(experts.cacheBytes), "readers": .number(experts.readers), "reads": .string(experts.reads ?? "auto")],
      "limits": [
        "payload_bytes": .number(limits.job.payloadBytes), "input_bytes": .number(limits.job.inputBytes), "labels": .number(limits.job.labels),
        "fields": .number(limits.job.fields), "queue_jobs": .number(limits.queueJobs), "queue_bytes": .number(limits.queueBytes), "in_flight": .number(limits.inFlight),
      ],
      "journal": [
        "path": .string(journal.path), "keep_s": .number(journal.keepSeconds), "keep_jobs": .number(journal.keepJobs), "max_bytes": .number(journal.mostBytes),
      ],
      "prefixes": ["path": .string(prefixes.path), "disk_bytes": .number(prefixes.diskBytes)],
      "pool": ["names": list(pool.names), "full_jobs": .number(pool.fullJobs)],
      "home_assistant": homeAssistant.map { ["discovery": .bool($0.isOn), "prefix": .string($0.prefix)] } ?? .null,
      "prometheus": metricsPath.map { ["textfile": .string($0)] } ?? .null,
      "tasks": .array(
        tasks.map { task in
          [
            "name": .string(task.name), "kind": .string(task.work.task.rawValue), "input": list(task.inputs), "output": .string(task.output),
            "escalate": task.escalation.map { ["pool": .string($0.pool), "daily": .number($0.daily), "timeout_s": .number($0.timeout / 1000)] } ?? .null,
          ]
        }),
    ]
  }
}
