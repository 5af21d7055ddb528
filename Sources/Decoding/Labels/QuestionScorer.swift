import Glibc
import Inference
import Tokenizer

/// Probabilities of yes, each the answer to a question of its own behind one text. Every question is a branch: they do not see each other, and one more changes nothing for the others.
public struct QuestionScorer: BranchScorer {
  private let questions: [[TokenID]]
  private let yes: TokenID
  private let no: TokenID
  private var waiting = WaitingAsks()
  private var hasBegun = false
  public private(set) var scores: [Float]

  /// - Parameter questions: none is empty.
  public init(_ questions: [[TokenID]], yes: TokenID, no: TokenID) {
    self.questions = questions
    self.yes = yes
    self.no = no
    scores = [Float](repeating: 0, count: questions.count)
  }

  public var opening: [TokenID] { [] }
  public var firstCandidates: [TokenID] { [] }
  public var isTrivial: Bool { questions.isEmpty }
  public var isDone: Bool { hasBegun && waiting.isEmpty }

  public mutating func begin(_ logits: [Float], behind sequence: Inference.Sequence) {
    hasBegun = true
    waiting.putBack(questions.indices.map { BranchAsk(node: $0, logProbability: 0, parent: sequence, feed: questions[$0], candidates: [yes, no]) })
  }

  public mutating func next(_ most: Int) -> [BranchAsk] { waiting.next(most) }
  public mutating func putBack(_ asks: [BranchAsk]) { waiting.putBack(asks) }

  public mutating func answer(_ ask: BranchAsk, _ logits: [Float], in sequence: Inference.Sequence) {
    scores[ask.node] = Float(exp(Choice.logProbabilities(logits)[0]))
  }
}
