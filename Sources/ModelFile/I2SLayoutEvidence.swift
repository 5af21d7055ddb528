import Glibc

/// What speaks for one layout of I2_S: a wrong one shuffles the columns of a matrix, 128 by 128, and leaves its rows in place. Neuron i is
/// row i of the gate projection and column i of the down projection. In trained models a neuron whose row has many zeros has a column
/// with many zeros, so the two agree in the layout in which the file was written, and in the other they do not.
package struct I2SLayoutEvidence {
  /// How surely the two are related, in standard deviations from chance; blocks add up.
  package private(set) var strength = 0.0

  package init() {}

  /// - Parameters: for each neuron, how many weights of its row and of its column are not zero. A multiple of 128 neurons.
  package mutating func add(rows: [Int], columns: [Int]) {
    guard rows.count == columns.count, rows.count >= 128, rows.count % 128 == 0 else { return }
    var (rowSquares, columnSquares, products) = (0.0, 0.0, 0.0)
    for first in stride(from: 0, to: rows.count, by: 128) {
      // About the means of the 128: those are the same in both layouts.
      let range = first..<first + 128
      let rowMean = Double(rows[range].reduce(0, +)) / 128
      let columnMean = Double(columns[range].reduce(0, +)) / 128
      for i in range {
        let (r, c) = (Double(rows[i]) - rowMean, Double(columns[i]) - columnMean)
        rowSquares += r * r
        columnSquares += c * c
        products += r * c
      }
    }
    guard rowSquares > 0, columnSquares > 0 else { return }
    let correlation = min(max(products / (rowSquares * columnSquares).squareRoot(), -0.999_999), 0.999_999)
    // Fisher's transformation: of variance 1 / (n - 3) where the two have nothing to do with each other.
    strength += atanh(correlation) * Double(rows.count - rows.count / 128 - 3).squareRoot()
  }

  /// Far beyond chance, and far beyond the quarter of the columns that both layouts have in the same place.
  package func speaks(against chosen: I2SLayoutEvidence) -> Bool { strength > 12 && strength > 2 * chosen.strength }
}
