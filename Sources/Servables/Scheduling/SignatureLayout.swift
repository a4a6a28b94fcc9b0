import ApusExport
import ApusTensor

/// What the scheduler knows of a signature: whether, and along which dimension, requests to it can be joined.
final class SignatureLayout: Sendable {
  let name: String?
  let signature: Signature
  let number: Int
  /// The place among the open dimensions of the one that examples are counted along; nil where requests cannot be joined.
  let batchAxis: Int?
  /// Open dimensions other than that.
  let otherAxes: [Int]
  /// For each input, and each output, the open dimension's place at each of its dimensions; -1 where it is fixed.
  let inputAxes: [[Int]]
  let outputAxes: [[Int]]

  init(_ name: String?, _ signature: Signature, number: Int) {
    (self.name, self.signature, self.number) = (name, signature, number)
    func axis(_ dimension: Dimension?) -> Int {
      guard case .open(let name, _) = dimension else { return -1 }
      return signature.openDimensions.firstIndex { $0.name == name } ?? -1
    }
    inputAxes = signature.inputs.map { $0.spec.dimensions.map(axis) }
    outputAxes = signature.outputs.map { $0.dimensions.map(axis) }
    var batch = inputAxes.first?.first ?? -1
    // Each input and output begins with it, and it stands nowhere else: an output of [batch, batch] mixes the requests. A size
    // that is another number may depend on it too.
    for axes in inputAxes + outputAxes where axes.first != batch || axes.dropFirst().contains(batch) { batch = -1 }
    if signature.outputs.isEmpty || signature.outputs.contains(where: { $0.dimensions.contains(nil) }) { batch = -1 }
    batchAxis = batch < 0 ? nil : batch
    otherAxes = signature.openDimensions.indices.filter { $0 != batch }
  }

  /// The sizes that the first dimension may have.
  var batchBounds: ClosedRange<Int> { batchAxis.map { signature.openDimensions[$0].sizes } ?? 1...1 }
}
