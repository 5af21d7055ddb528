import Basics
import CTernary
import ModelFile

// A routed feed-forward part: route, ask for the experts, have each multiply its own tokens, and add up in the order of the experts' numbers. What an
// expert gives for a token is a function of both alone, and every pair has a place of its own: so neither the batch, nor the threads, nor the order in which
// experts arrive changes a bit.

extension Model {
  /// From `work.h` to `work.delta`.
  func runExperts(_ tokens: Int, _ weights: RoutedWeights, _ index: Int) throws(SternaError) {
    guard let experts = configuration.experts, let source = self.experts, let space = work.experts else { return }
    route(tokens, weights, experts.router, space, &space.chosen, &space.weights)
    let needed = sortPairs(tokens, experts.router, space)
    prepareInputs(tokens * experts.router.chosen, weights.experts.record, experts.router, space)
    try source.withExperts(
      needed, of: index,
      meanwhile: {
        runShared(tokens, weights)
        lookAhead(tokens, index + 1, source, space)
      },
      use: { ready in run(ready, needed, weights.experts.record, space) })
    let chosen = experts.router.chosen
    let hidden = configuration.hiddenSize
    threads.parallel(tokens, work: tokens * chosen * hidden) { row, _ in
      for i in row * chosen..<(row + 1) * chosen {
        let weight = experts.router.target == .output ? space.weights[i] : 1
        kernels.axpy_f32(weight, space.output[space.pairOf[i]], work.delta[row], hidden)
      }
    }
  }

  /// The expert that every token uses, or zeros. To `work.delta`.
  private func runShared(_ tokens: Int, _ weights: RoutedWeights) {
    guard let shared = weights.shared else {
      for row in 0..<tokens { work.delta[row].update(repeating: 0, count: configuration.hiddenSize) }
      return
    }
    feedForward(tokens, shared)
    guard let gating = weights.sharedGating else { return }
    for row in 0..<tokens {
      let negative = -kernels.dot_f32(gating.pointer, work.h[row], gating.count)
      var power: Float = 0
      withUnsafePointer(to: negative) { kernels.exp($0, &power, 1) }
      let factor = 1 / (1 + power)
      let delta = work.delta[row]
      for i in 0..<configuration.hiddenSize { delta[i] *= factor }
    }
  }

  /// Has the source guess what the next block needs: what its router says of the residual stream as it is now, without what this block's experts add. `work.h` is lost.
  private func lookAhead(_ tokens: Int, _ index: Int, _ source: any ExpertSource, _ space: ExpertWorkspace) {
    let most = source.worthGuessing
    guard most > 0, index < weights.blocks.count, case .routed(let next) = weights.blocks[index].feedForward, let router = configuration.experts?.router else { return }
    let tokens = min(tokens, ExpertWorkspace.guessedTokens)
    norm(tokens, work.x, weights.blocks[index].feedForwardNorm, into: work.h)
    route(tokens, next, router, space, &space.guessed, &space.guessedWeights)
    var votes = [Float](repeating: 0, count: router.experts)
    for i in 0..<tokens * router.chosen { votes[Int(space.guessed[i])] += space.guessedWeights[i] }
    let likely = votes.indices.filter { votes[$0] > 0 }.sorted { (votes[$1], $0) < (votes[$0], $1) }
    source.guess(Array(likely.prefix(most)), of: index)
  }

  /// The experts of every token, with their weights: [tokens, chosen]
  private func route(
    _ tokens: Int, _ weights: RoutedWeights, _ configuration: ModelConfiguration.Router, _ space: ExpertWorkspace, _ chosen: inout [Int32], _ factors: inout [Float]
  ) {
    let router = Router(configuration: configuration, kernels: kernels)
    let hidden = self.configuration.hiddenSize
    chosen.withUnsafeMutableBufferPointer { chosen in
      factors.withUnsafeMutableBufferPointer { factors in
        guard let ids = chosen.baseAddress, let factors = factors.baseAddress else { return }
        nonisolated(unsafe) let (firstID, firstFactor) = (ids, factors)  // each row has its own part
        threads.parallel(tokens, work: tokens * configuration.experts * hidden) { row, worker in
          let logits = space.scores[row]
          for e in 0..<configuration.experts { logits[e] = kernels.dot_f32(weights.router.pointer + e * hidden, work.h[row], hidden) }
          router.choose(
            logits, bias: weights.bias?.pointer, scratch: space.scratch[worker], ids: firstID + row * configuration.chosen,
            weights: firstFactor + row * configuration.chosen)
        }
      }
    }
  }

  /// Numbers the pairs. Returns the experts that some token needs, ascending.
  private func sortPairs(_ tokens: Int, _ router: ModelConfiguration.Router, _ space: ExpertWorkspace) -> [Int] {
    let pairs = tokens * router.chosen
    for e in 0...router.experts { space.firstPair[e] = 0 }
    for i in 0..<pairs { space.firstPair[Int(space.chosen[i]) + 1] += 1 }
    var needed: [Int] = []
    for e in 0..<router.experts {
      if space.firstPair[e + 1] > 0 { needed.append(e) }
      space.firstPair[e + 1] += space.firstPair[e]
    }
    // Filling moves each beginning to the next expert's; so they are moved back by one afterwards.
    for i in 0..<pairs {
      let expert = Int(space.chosen[i])
      let pair = space.firstPair[expert]
      space.firstPair[expert] += 1
      space.pairOf[i] = pair
      space.tokenOf[pair] = i / router.chosen
      space.placeOf[pair] = i
    }
    for e in stride(from: router.experts, to: 0, by: -1) { space.firstPair[e] = space.firstPair[e - 1] }
    space.firstPair[0] = 0
    return needed
  }

  /// The input of every pair in the form in which experts take it.
  private func prepareInputs(_ pairs: Int, _ record: ExpertRecord, _ router: ModelConfiguration.Router, _ space: ExpertWorkspace) {
    let hidden = configuration.hiddenSize
    let copies = ExpertWorkspace.needsFloats(configuration, record)
    threads.parallel(pairs, work: pairs * hidden * 4) { pair, _ in
      var input = UnsafePointer(work.h[space.tokenOf[pair]])
      if copies {
        let copy = space.input[pair]
        let factor = router.target == .input ? space.weights[space.placeOf[pair]] : 1
        for i in 0..<hidden { copy[i] = input[i] * factor }
        input = UnsafePointer(copy)
      }
      if record.storage != .f32 { space.bricks.set(pair, input, hidden, kernels) }
    }
  }

  /// Experts whose records are there, for all their tokens. To `space.output`.
  private func run(_ ready: [ReadyExpert], _ needed: [Int], _ record: ExpertRecord, _ space: ExpertWorkspace) {
    let pairs = ready.reduce(0) { $0 + space.pairs(of: needed[$1.index]).count }
    let function = activation
    eachPiece(ready, needed, rows: record.expertSize, work: pairs * record.expertSize * record.hiddenSize / 4, space) { start, pairs, range in
      let first = pairs.lowerBound
      for (matrix, out) in [(record.gate(start), space.gate), (record.up(start), space.up)] {
        multiply(
          pairs.count, matrix, range, floats: space.inputStart(first), stride: space.input.stride, bricks: space.bricks, first: first, into: out[first],
          stride: out.stride)
      }
      let row = range.lowerBound * 16
      let count = min(range.upperBound * 16, record.expertSize) - row
      for pair in pairs { function(space.gate[pair] + row, space.up[pair] + row, space.gate[pair] + row, count) }
    }
    if record.storage != .f32 {
      for expert in ready {
        let own = space.pairs(of: needed[expert.index])
        threads.parallel(own.count, work: own.count * record.expertSize * 4) { i, _ in
          space.innerBricks.set(own.lowerBound + i, space.gate[own.lowerBound + i], record.expertSize, kernels)
        }
      }
    }
    eachPiece(ready, needed, rows: record.hiddenSize, work: pairs * record.expertSize * record.hiddenSize / 8, space) { start, pairs, range in
      let first = pairs.lowerBound
      multiply(
        pairs.count, record.down(start), range, floats: space.gate[first], stride: space.gate.stride, bricks: space.innerBricks, first: first,
        into: space.output[first], stride: space.output.stride)
    }
  }

  /// One round of the threads over runs of row blocks of all experts that are ready.
  private func eachPiece(
    _ ready: [ReadyExpert], _ needed: [Int], rows: Int, work: Int, _ space: ExpertWorkspace,
    _ body: (_ record: UnsafeRawPointer, _ pairs: Range<Int>, _ blocks: Range<Int>) -> Void
  ) {
    let blocks = (rows + 15) / 16
    let pieces = threads.count == 1 ? 1 : max(1, min((blocks + 3) / 4, (threads.count * 8 + ready.count - 1) / ready.count))
    threads.parallel(ready.count * pieces, work: work) { task, _ in
      let (expert, piece) = (ready[task / pieces], task % pieces)
      body(expert.record, space.pairs(of: needed[expert.index]), blocks * piece / pieces..<blocks * (piece + 1) / pieces)
    }
  }
}

extension ExpertWorkspace {
  /// The pairs of an expert.
  fileprivate func pairs(of expert: Int) -> Range<Int> { firstPair[expert]..<firstPair[expert + 1] }

  /// Inputs from a pair on; any place where they are not kept as floats.
  fileprivate func inputStart(_ pair: Int) -> UnsafePointer<Float> { UnsafePointer(input.buffer.count == 0 ? input.buffer.base : input[pair]) }
}
