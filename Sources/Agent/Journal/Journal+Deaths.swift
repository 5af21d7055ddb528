import Basics

// Which jobs were at the engine when the agent died, so that a job that kills it is found out.

extension Journal {
  /// A job goes to the engine. Inside a transaction, which must be on stable storage before it does.
  func begin(_ sequence: Int) throws(SternaError) {
    try database.statement("UPDATE jobs SET attempt=attempt+1, running=1 WHERE seq=?").run(.int(sequence))
  }

  /// The agent ends of its own will: nothing that is at the engine is to blame. Inside a transaction.
  func absolve() throws(SternaError) {
    try database.statement("UPDATE jobs SET running=0 WHERE state=0 AND running=1").run()
  }

  /// Draws the conclusion from an end that nobody asked for: what was at the engine will run alone, and what was there alone has one more death to its name. Once, at the start.
  ///
  /// - Returns: ids of the jobs that were at the engine.
  func countDeaths() throws(SternaError) -> [String] {
    let suspects = try database.statement("SELECT id FROM jobs WHERE state=0 AND running=1 ORDER BY seq").rows { $0.text(0) ?? "" }
    guard !suspects.isEmpty else { return [] }
    try transaction { () throws(SternaError) in
      // Who is under suspicion is never given to the engine with others.
      try database.statement("UPDATE jobs SET running=0, deaths=coalesce(deaths+1, 0) WHERE state=0 AND running=1").run()
    }
    return suspects
  }
}
