import ModelFile

extension Sequence {
  /// Appends what another sequence of the same model and its ancestors hold for the positions from this one's `count` to `end`.
  ///
  /// - Parameter end: at most the other's `count`; this sequence has room.
  func append(copying source: Sequence, upTo end: Int) {
    assert(source.pool === pool && end <= source.count && end - start <= capacity)
    var holder: Sequence? = source
    var upper = end
    while let current = holder, upper > count {
      let lower = max(current.start, count)
      if lower < upper {
        copy(current, lower..<upper)
        upper = lower
      }
      holder = current.parent
    }
    advance(by: max(0, end - count))
  }

  /// Own tokens of another sequence to the same positions here.
  private func copy(_ source: Sequence, _ positions: Range<Int>) {
    let layout = pool.layout
    let from = positions.lowerBound - source.start
    let to = positions.lowerBound - start
    for block in 0..<layout.blocks {
      for part in layout.parts.indices {
        for head in 0..<layout.parts[part].heads {
          let origin = source.storage(block: block, part: part, head: head)
          let target = storage(block: block, part: part, head: head)
          switch layout.format {
          case .f32, .f16:
            let token = layout.parts[part].size * (layout.format == .f32 ? 4 : 2)
            (target + to * token).copyMemory(from: origin + from * token, byteCount: positions.count * token)
          case .q8:
            let scales = source.storage + layout.scaleOffset(block: block, part: part, head: head, capacity: source.capacity)
            let own = storage + layout.scaleOffset(block: block, part: part, head: head, capacity: capacity)
            (own + to * 4).copyMemory(from: scales + from * 4, byteCount: positions.count * 4)
            if !layout.parts[part].isValue {
              copyKeys(part, origin, from, source.capacity, to: target, to, positions.count)
            } else {
              copyValues(part, origin, from, to: target, to, positions.count)
            }
          }
        }
      }
    }
  }

  private func copyKeys(_ part: Int, _ origin: UnsafeMutableRawPointer, _ from: Int, _ sourceCapacity: Int, to target: UnsafeMutableRawPointer, _ to: Int, _ count: Int) {
    let layout = pool.layout
    // Whole groups at once where both begin with one. What is behind the tokens of the last may be there already.
    let whole = from == 0 && to == 0 && layout.groupsKeys(sourceCapacity) && layout.groupsKeys(capacity) ? count / 16 * 16 : 0
    target.copyMemory(from: origin, byteCount: whole * layout.parts[part].paddedSize)
    for i in whole..<count {
      for dimension in stride(from: 0, to: layout.parts[part].paddedSize, by: 4) {
        (target + layout.keyOffset(part, slot: to + i, dimension: dimension, capacity: capacity))
          .copyMemory(from: origin + layout.keyOffset(part, slot: from + i, dimension: dimension, capacity: sourceCapacity), byteCount: 4)
      }
    }
  }

  private func copyValues(_ part: Int, _ origin: UnsafeMutableRawPointer, _ from: Int, to target: UnsafeMutableRawPointer, _ to: Int, _ count: Int) {
    let layout = pool.layout
    let whole = from == 0 && to == 0 ? count / 2 * 2 : 0
    target.copyMemory(from: origin, byteCount: whole * layout.parts[part].paddedSize)
    for i in whole..<count {
      let source = origin + layout.valueOffset(part, slot: from + i, dimension: 0)
      let own = target + layout.valueOffset(part, slot: to + i, dimension: 0)
      for byte in stride(from: 0, to: 2 * layout.parts[part].paddedSize, by: 2) {
        own.storeBytes(of: source.load(fromByteOffset: byte, as: UInt8.self), toByteOffset: byte, as: UInt8.self)
      }
    }
  }

  /// Zeros wherever no token lies: so equal tokens are equal bytes, and a file never holds what the memory held before.
  func clearUnused() {
    let layout = pool.layout
    let slots = layout.slots(capacity)
    for block in 0..<layout.blocks {
      for part in layout.parts.indices {
        for head in 0..<layout.parts[part].heads {
          let base = storage(block: block, part: part, head: head)
          switch layout.format {
          case .f32, .f16:
            let token = layout.parts[part].size * (layout.format == .f32 ? 4 : 2)
            (base + length * token).initializeMemory(as: UInt8.self, repeating: 0, count: (capacity - length) * token)
          case .q8:
            for slot in length..<slots {
              for dimension in 0..<layout.parts[part].paddedSize {
                let offset =
                  !layout.parts[part].isValue
                  ? layout.keyOffset(part, slot: slot, dimension: dimension / 4 * 4, capacity: capacity) + dimension % 4
                  : layout.valueOffset(part, slot: slot, dimension: dimension)
                base.storeBytes(of: 0, toByteOffset: offset, as: UInt8.self)
              }
            }
            let used = slots * layout.parts[part].paddedSize
            (base + used).initializeMemory(as: UInt8.self, repeating: 0, count: layout.headBytes(part, capacity) - used)
            let scales = storage + layout.scaleOffset(block: block, part: part, head: head, capacity: capacity)
            (scales + length * 4).initializeMemory(as: UInt8.self, repeating: 0, count: (slots - length) * 4)
          }
        }
      }
    }
  }
}
