import Basics
import Decoding
import Inference
import ModelFile

/// The codes of job errors. Clients switch on them, so none is ever renamed.
extension SternaError.Code {
  /// A job arrived as a retained message: it would run again with every subscription.
  public static let retainedJob: Self = "retained_job"
  public static let unknownProfile: Self = "unknown_profile"
  public static let unknownTask: Self = "unknown_task"
  /// The answer was not there in time.
  public static let deadline: Self = "deadline"
  /// The id was used before, with another payload.
  public static let idConflict: Self = "id_conflict"
  /// The job was of no use any more when its turn came.
  public static let expired: Self = "expired"
  public static let payloadTooLarge: Self = "payload_too_large"
  /// The answer does not fit into a packet that the broker takes.
  public static let resultTooLarge: Self = "result_too_large"
  /// The text and its answer do not fit the model's context.
  public static let inputTooLong: Self = "input_too_long"
  public static let cancelled: Self = "cancelled"
  public static let `internal`: Self = "internal"
  public static let queueFull: Self = "queue_full"
  public static let draining: Self = "draining"
  public static let storageFull: Self = "storage_full"
  /// Nothing of that name, or nothing to go back to.
  public static let notFound: Self = "not_found"
  /// Somebody else is at it; later it may work.
  public static let busy: Self = "busy"
  /// A model that is older than one that the agent had.
  public static let oldRelease: Self = "old_release"
  /// A model that is broken, or does not work on this machine.
  public static let badModel: Self = "bad_model"
  /// The job took the agent down with it, again and again.
  public static let poisoned: Self = "poisoned"
}

extension SternaError.Code {
  /// The HTTP status that says the same, for clients that bridge to HTTP.
  public var httpStatus: Int {
    switch self {
    case .badJSON, .badField, .retainedJob, .unsupported: 400
    case .badSignature: 403
    case .unknownProfile, .unknownTask, .notFound: 404
    case .deadline: 408
    case .idConflict, .busy, .oldRelease: 409
    case .expired: 410
    case .payloadTooLarge, .inputTooLong, .resultTooLarge: 413
    case .noValidOutput, .badModel: 422
    case .cancelled: 499
    case .queueFull, .draining: 503
    case .storageFull: 507
    case .poisoned: 508
    default: 500
    }
  }

  /// Whether the same job, sent again later, may succeed.
  public var isRetryable: Bool {
    switch self {
    case .deadline, .queueFull, .draining, .storageFull, .modelIO, .internal, .busy: true
    default: false
    }
  }

  /// What clients are told: the table above, `model_io`, and `internal` for everything else from the layers below.
  public var forClients: SternaError.Code { httpStatus == 500 && self != .modelIO ? .internal : self }
}
