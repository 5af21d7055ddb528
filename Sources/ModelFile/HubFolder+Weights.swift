import Basics

// How checkpoints of the `bitnet` quantiser store ternary matrices (docs/format.md says the same in formulas):
//
//   packed   uint8 [rows / 4, columns]: bits 2i of byte [r][c] hold weight + 1 of row i * rows / 4 + r. One scale beside it.
//   masters  float [rows, columns]: s = 1 / max(mean |w|, 1e-5); weight = round-half-even(w * s) clamped to -1...1, times 1 / s.
//   plain    float [rows, columns] that are -1, 0 or 1 already, with one scale beside it.
//
// Other checkpoints have no `quantization_config`; their floats must be ternary as they are (ExactTernary).

extension HubFolder: WeightSource {
  package func check(_ plan: [PlannedTensor]) throws(SternaError) {
    for planned in plan {
      switch planned.kind {
      case .vector(let count):
        let source = try required(hubName(planned.part))
        // A row may be written as a matrix of one row.
        try source.require(shape: source.tensor.shape == [1, count] ? [1, count] : [count])
        try source.requireFloat()
      case .table(let rows, let columns):
        let remedy = planned.part == .head ? "if the head is the embedding, config.json must say tie_word_embeddings" : nil
        let source = try required(hubName(planned.part), remedy: remedy)
        try source.require(shape: [rows, columns])
        try source.requireFloat()
      case .ternary: _ = try ternaryStorage(planned)
      case .router, .matrix: _ = try matrix(planned)
      case .experts(let count):
        guard case .block(let block, _) = planned.part else { continue }
        for expert in 0..<count {
          for linear in [Linear.gate, .up, .down] { _ = try matrix(configuration.expert(block, expert, linear)) }
        }
      }
    }
    try refuseBiases(plan)
  }

  func hubName(_ part: ModelPart) -> String { part.hubName(configuration.architecture) }

  /// A bias that nobody adds would be nonsense without an error. Those of parts that are left out belong to them.
  private func refuseBiases(_ plan: [PlannedTensor]) throws(SternaError) {
    let known = Set(plan.map { hubName($0.part) })
    if let name = tensorNames.filter({ $0.hasSuffix(".bias") && !known.contains($0) && !isLeftOut($0) }).min() {
      throw try required(name).error("linears with a bias are not supported", code: .unsupported)
    }
  }

  package func floats(_ planned: PlannedTensor, rows: Range<Int>, into out: UnsafeMutableBufferPointer<Float>) throws(SternaError) {
    switch planned.kind {
    case .router, .matrix: try matrix(planned).floats(rows, into: out)
    default: try required(hubName(planned.part)).floats(from: rows.isEmpty ? 0 : rows.lowerBound * (out.count / rows.count), into: out)
    }
  }

  package func storage(_ planned: PlannedTensor) throws(SternaError) -> WeightStorage? {
    guard try fp4(planned) != nil, case .asIs = try matrix(planned).order else { return nil }
    return .mxfp4
  }

  package func blocks(_ planned: PlannedTensor, rows: Range<Int>, into out: UnsafeMutableRawBufferPointer) throws(SternaError) {
    guard let found = try fp4(planned) else { throw SternaError(.badFile, "is not stored in blocks", at: planned.name) }
    try found.blocks(from: rows.lowerBound, into: out)
  }

  package func ternary(_ planned: PlannedTensor) throws(SternaError) -> TernaryRows {
    guard case .ternary(let rows, let columns) = planned.kind else { throw SternaError(.badFile, "not a matrix", at: planned.name) }
    switch try ternaryStorage(planned) {
    case .exact(let matrix, let scale): return matrix.ternaryRows(scale)
    case .packed(let source, let scale): return packed(source, rows, columns, scale)
    case .plain(let source, let scale): return plain(source, columns, scale)
    case .masters(let source): return try masters(source, rows, columns)
    }
  }

  private enum Storage {
    case packed(HubTensor, scale: Float)
    case plain(HubTensor, scale: Float)
    case masters(HubTensor)
    case exact(ExactTernary, scale: TernaryRows.Scale)
  }

  /// A matrix of floats that must be ternary as they are.
  func exact(_ planned: PlannedTensor, _ rows: Int, _ columns: Int) throws(SternaError) -> ExactTernary {
    let source = try required(hubName(planned.part))
    guard source.tensor.type != .u8 else {
      throw source.error(
        "the weights are packed, but config.json does not say how", expected: "quantization_config with quant_method bitnet", found: "no quantization_config",
        remedy: "take config.json from where the weights come from")
    }
    try source.requireFloat()
    try source.require(shape: [rows, columns])
    return ExactTernary(place: source.place, rows: rows, columns: columns) { (range, out) throws(SternaError) in
      try source.floats(from: range.lowerBound * columns, into: out)
    }
  }

  /// The type of the values decides how they are stored; where `config.json` says otherwise the folder is refused.
  private func ternaryStorage(_ planned: PlannedTensor) throws(SternaError) -> Storage {
    guard case .ternary(let rows, let columns) = planned.kind else { throw SternaError(.badFile, "not a matrix", at: planned.name) }
    guard let quantization else {
      guard let scale = exactScales[planned.part] else { throw SternaError(.badFile, "not a matrix of this model", at: planned.name) }
      return .exact(try exact(planned, rows, columns), scale: scale)
    }
    let source = try required(hubName(planned.part))
    let scaleName = hubName(planned.part) + "_scale"
    if source.tensor.type == .u8 {
      guard !quantization.online else {
        throw source.error(
          "the weights are packed, but config.json says that they are masters", expected: "F32, F16 or BF16", found: "U8",
          remedy: "if the file is right, config.json must say quantization_mode offline")
      }
      guard rows % 4 == 0 else { throw source.error("packed weights need a multiple of 4 rows", found: "\(rows)", code: .unsupported) }
      try source.require(shape: [rows / 4, columns])
      return .packed(source, scale: try scale(scaleName, divides: quantization.dividesByScale))
    }
    try source.requireFloat()
    try source.require(shape: [rows, columns])
    if quantization.online {
      guard tensor(scaleName) == nil else {
        throw source.error("there are masters and a scale, which contradict each other", found: "tensor \(scaleName)")
      }
      return .masters(source)
    }
    guard !quantization.dividesByScale, tensor(scaleName) != nil else {
      throw source.error(
        "the weights are floats, but config.json says that they are packed", expected: "U8 [\(rows / 4), \(columns)]",
        found: "\(source.tensor.type.rawValue) \(source.tensor.shape)",
        remedy: "if these are master weights, config.json must say linear_class autobitlinear and quantization_mode online")
    }
    return .plain(source, scale: try scale(scaleName, divides: false))
  }

  /// The factor on the product: the stored scale, or one over it.
  private func scale(_ name: String, divides: Bool) throws(SternaError) -> Float {
    let source = try required(name)
    try source.requireFloat()
    guard source.tensor.shape == [1] || source.tensor.shape == [] else {
      throw source.error("only one scale a matrix is supported", expected: "[1]", found: "\(source.tensor.shape)", code: .unsupported)
    }
    var value: Float = 0
    let result = withUnsafeMutablePointer(to: &value) { pointer in
      Result { () throws(SternaError) in try source.floats(from: 0, into: UnsafeMutableBufferPointer(start: pointer, count: 1)) }
    }
    try result.get()
    let scale = divides ? 1 / value : value
    guard value > 0, scale.isFinite, scale > 0 else { throw source.error("is not a usable scale", expected: "a positive number", found: "\(value)") }
    return scale
  }

  private func packed(_ source: HubTensor, _ rows: Int, _ columns: Int, _ scale: Float) -> TernaryRows {
    TernaryRows(scale: .tensor(scale)) { (range, out, _) throws(SternaError) in
      guard let start = source.start else { return }
      let quarter = rows / 4
      var worst: UInt8 = 0
      for (i, row) in range.enumerated() {
        let from = start + row % quarter * columns
        let shift = UInt8(row / quarter * 2)
        let to = out + i * columns
        for c in 0..<columns {
          let code = from.load(fromByteOffset: c, as: UInt8.self) &>> shift & 3
          worst = max(worst, code)
          to[c] = Int8(truncatingIfNeeded: code) - 1
        }
      }
      guard worst < 3 else { throw source.error("holds a code that is not 0, 1 or 2", found: "3 in rows \(range.lowerBound) to \(range.upperBound - 1)") }
      if let last = range.last, last == rows - 1 { source.file.release(source.tensor.bytes) }
    }
  }

  private func plain(_ source: HubTensor, _ columns: Int, _ scale: Float) -> TernaryRows {
    TernaryRows(scale: .tensor(scale)) { (range, out, _) throws(SternaError) in
      let values = UnsafeMutableBufferPointer<Float>.allocate(capacity: range.count * columns)
      defer { values.deallocate() }
      try source.floats(from: range.lowerBound * columns, into: values)
      for (i, value) in values.enumerated() {
        guard value == 0 || abs(value) == 1 else {
          throw source.error(
            "the weights are neither packed nor ternary", expected: "-1, 0 or 1", found: "\(value) in row \(range.lowerBound + i / columns)",
            remedy: "if these are master weights, config.json must say quantization_mode online")
        }
        out[i] = Int8(value)
      }
    }
  }

  private func masters(_ source: HubTensor, _ rows: Int, _ columns: Int) throws(SternaError) -> TernaryRows {
    let chunk = max(1, (1 << 18) / columns)
    let buffer = UnsafeMutableBufferPointer<Float>.allocate(capacity: chunk * columns)
    defer { buffer.deallocate() }
    // Torch sums float32 in a tree; a sum of doubles rounded once is what that approaches.
    var sum = 0.0
    for first in stride(from: 0, to: rows, by: chunk) {
      let values = UnsafeMutableBufferPointer(rebasing: buffer[..<(min(chunk, rows - first) * columns)])
      try source.floats(from: first * columns, into: values)
      for value in values { sum += Double(abs(value)) }
    }
    let mean = Float(sum / Double(rows * columns))
    guard mean.isFinite else { throw source.error("the mean of the weights is too large", found: "\(sum / Double(rows * columns))") }
    let s = 1 / max(mean, 1e-5)
    return TernaryRows(scale: .tensor(1 / s)) { (range, out, _) throws(SternaError) in
      let values = UnsafeMutableBufferPointer<Float>.allocate(capacity: range.count * columns)
      defer { values.deallocate() }
      try source.floats(from: range.lowerBound * columns, into: values)
      for i in 0..<values.count { out[i] = Int8(min(max((values[i] * s).rounded(.toNearestOrEven), -1), 1)) }
    }
  }
}
