extension Match {
  /// x wᵀ + bias of half precision, which the composite rounds once. Wider products take their bias without any loss when
  /// the plan gives them their epilogues.
  static func linear(_ match: inout Match, _ root: Value) -> Replacement? {
    let type = match.type(root).elementType
    guard type == .float16 || type == .bfloat16, let sum = match.operands(root, .binary(.add)) else { return nil }
    for (i, j) in [(0, 1), (1, 0)] {
      var attempt = match
      guard let bias = attempt.perColumn(sum[j]), attempt.type(bias).elementType == type,
        let node = attempt.node(sum[i]), case .dot(let d) = node.operation
      else { continue }
      let (x, w) = (node.inputs[0], node.inputs[1])
      guard d.lhsBatch.isEmpty, d.lhsContracting.count == 1, d.lhsContracting[0] == match.shape(x).count - 1,
        match.shape(x).count > 1, match.shape(w).count == 2
      else { continue }
      _ = attempt.enter(sum[i])
      match = attempt
      let isTransposed = d.rhsContracting[0] == 1
      let columns = match.shape(root)[match.shape(root).count - 1]
      return { builder in
        let weight = builder.transposed(builder.value(w), isTransposed ? [0, 1] : [1, 0])
        return builder.apply(
          .composite(.linear), builder.value(x), weight, builder.reshaped(builder.value(bias), [columns]))
      }
    }
    return nil
  }
}
