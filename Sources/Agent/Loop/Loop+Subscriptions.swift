import Basics
import CMosquitto
import Jobs

// What the agent listens to on its own connection, and how it stops listening: the broker keeps filters for days, so those of an earlier configuration are remembered and taken back.

extension Loop {
  /// All filters of a session.
  func filters(of session: Session) -> Set<String> {
    var filters = Set(intake.subscriptions)
    if let birth = homeAssistant?.birth { filters.insert(birth) }
    return filters.union(secondOpinionFilters(session))
  }

  /// Listens to everything that is to be heard and to nothing else. Called on every connection, and when the tasks have changed.
  ///
  /// - Parameter known: filters that this connection has already.
  func listen(_ session: Session, known: Set<String> = []) {
    let filters = filters(of: session)
    staleFilters = staleFilters.union(known).union(kept(.filters)).subtracting(filters)
    // Before the broker hears of a filter, so that none is forgotten; after it has dropped one, `unsubscribed`.
    keep(filters.union(staleFilters), as: .filters)
    for filter in staleFilters { session.unsubscribe(filter) }
    unconfirmedEnds += staleFilters.count
    refusedFilters.formIntersection(filters)
    for filter in filters.subtracting(known).sorted() { subscribe(filter, session) }
  }

  /// The broker has confirmed ends of subscriptions.
  func unsubscribed(_ count: Int, _ session: Session) {
    unconfirmedEnds = max(0, unconfirmedEnds - count)
    guard unconfirmedEnds == 0 else { return }
    staleFilters = []
    keep(filters(of: session), as: .filters)
  }

  private func subscribe(_ filter: String, _ session: Session) {
    // A retained job is refused at once (retain as published) and once (new subscriptions only), a retained request at once; of tasks a device's reading counts when it comes, retained or not.
    let options =
      switch filter {
      case intake.subscriptions[0]: MQTT_SUB_OPT_RETAIN_AS_PUBLISHED.rawValue | MQTT_SUB_OPT_SEND_RETAIN_NEW.rawValue
      case intake.subscriptions[1]: MQTT_SUB_OPT_RETAIN_AS_PUBLISHED.rawValue | MQTT_SUB_OPT_SEND_RETAIN_NEVER.rawValue
      default: MQTT_SUB_OPT_SEND_RETAIN_NEVER.rawValue
      }
    unconfirmedFilters[session.subscribe(filter, options: UInt32(options), identifier: intake.identifier(of: filter))] = filter
  }

  // MARK: - Refusals

  /// The broker has answered a subscription.
  func subscribed(_ number: Int32, isRefused: Bool, _ now: Int) {
    guard let filter = unconfirmedFilters.removeValue(forKey: number) else { return }
    if isRefused {
      askAgainAt = now + 60_000
      guard refusedFilters.insert(filter).inserted, let refusal = subscriptionRefusal else { return }
      logger.error("\(refusal)")
    } else {
      guard refusedFilters.remove(filter) != nil else { return }
      logger.info("the broker lets the agent listen to \(filter) now")
    }
    sayState()
  }

  /// What nobody hears here although it should be heard.
  var subscriptionRefusal: SternaError? {
    refusedFilters.isEmpty
      ? nil
      : SternaError(.io, "the broker does not let the agent listen to \(refusedFilters.sorted().joined(separator: ", "))", at: broker, remedy: "put its access rules right; asked again every minute")
  }

  func askAgain(_ now: Int) {
    askAgainAt = now + 60_000
    guard case .up(let session) = link else { return }
    for filter in refusedFilters.sorted() { subscribe(filter, session) }
  }

  // MARK: - Remembering

  /// Nothing while the journal does not work: what is left then stays a little longer.
  func kept(_ kind: Journal.Kept) -> Set<String> {
    guard let journal, journalFailure == nil else { return [] }
    do { return try journal.kept(kind) } catch {
      failed(error)
      return []
    }
  }

  func keep(_ names: Set<String>, as kind: Journal.Kept) {
    guard let journal, journalFailure == nil else { return }
    do { try journal.keep(names, as: kind) } catch { failed(error) }
  }
}
