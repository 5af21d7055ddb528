/// Items in the order of their keys, from which any one can be taken away: a binary heap that knows where each item is.
///
/// All changes take O(log n) comparisons, and nothing of an item that was removed stays behind.
struct IndexedHeap<Item: Hashable, Key: Comparable> {
  private var slots: [(item: Item, key: Key)] = []
  private var places: [Item: Int] = [:]

  var count: Int { slots.count }
  var isEmpty: Bool { slots.isEmpty }
  /// The item with the smallest key.
  var first: (item: Item, key: Key)? { slots.first }

  /// Puts an item in, or gives it another key.
  mutating func set(_ item: Item, to key: Key) {
    if let place = places[item] {
      slots[place].key = key
      settle(place)
    } else {
      places[item] = slots.count
      slots.append((item, key))
      settle(slots.count - 1)
    }
  }

  mutating func remove(_ item: Item) {
    guard let place = places.removeValue(forKey: item) else { return }
    let last = slots.removeLast()
    guard place < slots.count else { return }
    slots[place] = last
    places[last.item] = place
    settle(place)
  }

  /// Moves what stands at a place to where its key belongs.
  private mutating func settle(_ start: Int) {
    var place = start
    while place > 0, case let parent = (place - 1) / 2, slots[place].key < slots[parent].key {
      swap(place, parent)
      place = parent
    }
    while case let left = 2 * place + 1, left < slots.count {
      let child = left + 1 < slots.count && slots[left + 1].key < slots[left].key ? left + 1 : left
      guard slots[child].key < slots[place].key else { return }
      swap(place, child)
      place = child
    }
  }

  private mutating func swap(_ a: Int, _ b: Int) {
    slots.swapAt(a, b)
    places[slots[a].item] = a
    places[slots[b].item] = b
  }
}
