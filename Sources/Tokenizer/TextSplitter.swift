/// Cuts text into the pieces of a split rule. Each rule is written out as a scanner that does what its pattern says (SplitRule.swift), in
/// one pass and without looking back, so that no text takes more than linear time.
package struct TextSplitter {
  let rule: SplitRule
  let scanner: ScalarScanner

  init(_ rule: SplitRule, _ text: UnsafeBufferPointer<UInt8>) {
    self.rule = rule
    scanner = ScalarScanner(text)
  }

  /// Calls `piece` with the bounds of every piece, in order. Together they cover the text.
  func forEachPiece(_ piece: (Int, Int) -> Void) {
    let end = scanner.text.count
    switch rule {
    case .llamaBPE: pieces(0, end, piece) { wordOrNumber($0, $1, digits: 3) }
    case .qwen2: pieces(0, end, piece) { wordOrNumber($0, $1, digits: 1) }
    case .falcon: falcon(end, piece)
    case .deepseekLLM: deepseek(end, piece)
    case .sentencePiece: pieces(0, end, piece) { spacesAndWord($0, $1) }
    case .gpt2: pieces(0, end, piece, gpt2)
    }
  }

  private func pieces(_ start: Int, _ end: Int, _ piece: (Int, Int) -> Void, _ next: (Int, Int) -> Int) {
    var at = start
    while at < end {
      let cut = next(at, end)
      piece(at, cut)
      at = cut
    }
  }

  /// The bounds of all pieces of a text.
  package static func pieces(of text: [UInt8], _ rule: SplitRule) -> [Range<Int>] {
    var pieces: [Range<Int>] = []
    text.withUnsafeBufferPointer { TextSplitter(rule, $0).forEachPiece { pieces.append($0..<$1) } }
    return pieces
  }

  // MARK: Llama 3 and Qwen 2

  /// The end of the match at `at`:
  /// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
  private func wordOrNumber(_ at: Int, _ end: Int, digits: Int) -> Int {
    let (first, length) = scanner.character(at)
    if first.contains(.letter) { return scanner.run(at + length, end, .letter) }
    if first.contains(.number) {
      var cut = at + length
      var left = digits - 1
      while left > 0, cut < end {
        let (next, length) = scanner.character(cut)
        guard next.contains(.number) else { break }
        cut += length
        left -= 1
      }
      return cut
    }
    if let cut = contraction(at, end, anyCase: true) { return cut }
    let second: CharacterClass? = at + length < end ? scanner.character(at + length).class : nil
    if let second, second.contains(.letter), !first.contains(.lineBreak) { return scanner.run(at + length, end, .letter) }
    if first.isOther || (scanner.text[at] == 0x20 && second?.isOther == true) {
      return scanner.run(scanner.runOfOthers(at + length, end), end, .lineBreak)
    }
    return spaces(at, end, breaks: true)
  }

  /// `'s|'t|'re|'ve|'m|'ll|'d`. With any case the long s (U+017F) is an s too: that is what full case folding says.
  private func contraction(_ at: Int, _ end: Int, anyCase: Bool) -> Int? {
    let text = scanner.text
    guard text[at] == UInt8(ascii: "'"), at + 1 < end else { return nil }
    func letter(_ i: Int) -> UInt8 { i < end ? (anyCase && 0x41...0x5A ~= text[i] ? text[i] | 0x20 : text[i]) : 0 }
    switch letter(at + 1) {
    case UInt8(ascii: "s"), UInt8(ascii: "t"), UInt8(ascii: "m"), UInt8(ascii: "d"): return at + 2
    case UInt8(ascii: "r"), UInt8(ascii: "v"): return letter(at + 2) == UInt8(ascii: "e") ? at + 3 : nil
    case UInt8(ascii: "l"): return letter(at + 2) == UInt8(ascii: "l") ? at + 3 : nil
    case 0xC5: return anyCase && at + 2 < end && text[at + 2] == 0xBF ? at + 3 : nil
    default: return nil
    }
  }

  /// `\s*[\r\n]+|\s+(?!\S)|\s+` (the first only with `breaks`), at a space.
  private func spaces(_ start: Int, _ end: Int, breaks: Bool) -> Int {
    var at = start
    var last = start
    var behindBreak = start
    while at < end {
      let (found, length) = scanner.character(at)
      guard found.contains(.space) else { break }
      last = at
      at += length
      if found.contains(.lineBreak) { behindBreak = at }
    }
    if breaks, behindBreak > start { return behindBreak }
    // What follows may want the last space for itself.
    return at == end || last == start ? at : last
  }

  // MARK: Falcon

  /// Runs of punctuation are cut out first, then GPT-2's pattern is applied to what lies between. Digits are cut out of each piece, but
  /// in its *byte-level spelling*, where the bytes of `¼`, `½`, `¾`, `¹`, `²`, `³` are digits wherever they occur; then ASCII digits in threes.
  private func falcon(_ end: Int, _ piece: (Int, Int) -> Void) {
    var at = 0
    while at < end {
      let punctuation = scanner.character(at).class.contains(.punctuation)
      var cut = at
      while cut < end {
        let (found, length) = scanner.character(cut)
        guard found.contains(.punctuation) == punctuation else { break }
        cut += length
      }
      pieces(at, cut, { digitsApart($0, $1, piece) }, gpt2)
      at = cut
    }
  }

  /// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
  private func gpt2(_ at: Int, _ end: Int) -> Int {
    if let cut = contraction(at, end, anyCase: false) { return cut }
    var start = at
    var (first, length) = scanner.character(at)
    if scanner.text[at] == 0x20, at + 1 < end {
      let second = scanner.character(at + 1)
      if !second.class.contains(.space) {
        start = at + 1
        (first, length) = second
      }
    }
    if first.contains(.letter) { return scanner.run(start + length, end, .letter) }
    if first.contains(.number) { return scanner.run(start + length, end, .number) }
    if first.isOther { return scanner.runOfOthers(start + length, end) }
    return spaces(at, end, breaks: false)
  }

  private func digitsApart(_ start: Int, _ end: Int, _ piece: (Int, Int) -> Void) {
    func isDigit(_ byte: UInt8) -> Bool {
      switch byte {
      case 0x30...0x39, 0xB2, 0xB3, 0xB9, 0xBC...0xBE: true
      default: false
      }
    }
    func isASCIIDigit(_ i: Int) -> Bool { 0x30...0x39 ~= scanner.text[i] }
    var at = start
    while at < end {
      let digits = isDigit(scanner.text[at])
      var cut = at + 1
      while cut < end, isDigit(scanner.text[cut]) == digits { cut += 1 }
      // Groups of three from the left; what lies between groups stays together.
      var pending = at
      var i = at
      while digits, i + 3 <= cut {
        guard isASCIIDigit(i), isASCIIDigit(i + 1), isASCIIDigit(i + 2) else { i += 1; continue }
        if pending < i { piece(pending, i) }
        piece(i, i + 3)
        i += 3
        pending = i
      }
      if pending < cut { piece(pending, cut) }
      at = cut
    }
  }

  // MARK: DeepSeek LLM

  /// Seven cuts one after the other, each of all pieces that the one before made. They do cut each other's matches: the range `:-~` of the
  /// punctuation holds the ASCII letters, so `aß` falls apart.
  private func deepseek(_ end: Int, _ piece: (Int, Int) -> Void) {
    isolate(0, end, { at, _ in scanner.character(at).class.contains(.lineBreak) ? at + 1 : nil }) { start, end in
      isolate(start, end, { spaceAndRun($0, $1, CharacterRanges.isDeepseekLetter) }) { start, end in
        isolate(start, end, { spaceAndRun($0, $1, CharacterRanges.isDeepseekPunctuation) }) { start, end in
          let tail = startOfTrailingSpace(start, end)
          cjkAndNumbers(start, tail, piece)
          cjkAndNumbers(tail, end, piece)
        }
      }
    }
  }

  private func cjkAndNumbers(_ start: Int, _ end: Int, _ piece: (Int, Int) -> Void) {
    isolate(start, end, cjk) { isolate($0, $1, number, each: piece) }
  }

  /// Cuts `start..<end` where `match` gives an end. Matches and what lies between them go to `each`.
  private func isolate(_ start: Int, _ end: Int, _ match: (Int, Int) -> Int?, each: (Int, Int) -> Void) {
    var pending = start
    var at = start
    while at < end {
      if let cut = match(at, end) {
        if pending < at { each(pending, at) }
        each(at, cut)
        at = cut
        pending = cut
      } else {
        at += scanner.character(at).length
      }
    }
    if pending < end { each(pending, end) }
  }

  /// `\s?[set]+`
  private func spaceAndRun(_ at: Int, _ end: Int, _ isInSet: (UInt32) -> Bool) -> Int? {
    func run(_ start: Int) -> Int {
      var at = start
      while at < end {
        let (value, length) = scanner.scalar(at)
        guard isInSet(value) else { break }
        at += length
      }
      return at
    }
    let (first, length) = scanner.character(at)
    if first.contains(.space) {
      let cut = run(at + length)
      if cut > at + length { return cut }
    }
    let cut = run(at)
    return cut > at ? cut : nil
  }

  private func startOfTrailingSpace(_ start: Int, _ end: Int) -> Int {
    var at = start
    var tail = start
    while at < end {
      let (found, length) = scanner.character(at)
      at += length
      if !found.contains(.space) { tail = at }
    }
    return tail
  }

  private func cjk(_ start: Int, _ end: Int) -> Int? {
    var at = start
    while at < end {
      let (value, length) = scanner.scalar(at)
      guard CharacterRanges.isDeepseekCJK(value) else { break }
      at += length
    }
    return at > start ? at : nil
  }

  private func number(_ at: Int, _ end: Int) -> Int? {
    let (found, length) = scanner.character(at)
    return found.contains(.number) ? at + length : nil
  }

  // MARK: SentencePiece

  /// A run of spaces and what follows up to the next space: no token of the vocabulary has a space behind another character (checked
  /// when the tables are made), so no merge can cross such a cut.
  private func spacesAndWord(_ start: Int, _ end: Int) -> Int {
    var at = start
    while at < end, scanner.text[at] == 0x20 { at += 1 }
    while at < end, scanner.text[at] != 0x20 { at += 1 }
    return at
  }
}
