// Recurrent cells: what happens to each element once the products are made.

/// One step of a long short-term memory (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000), given
/// its gates before their activation: c' = σ(f) c + σ(i) tanh(g), h' = σ(o) tanh(c').
///
/// PyTorch's LSTMCell is `lstmCell(gates: linear(x, weightIH, biasIH) + linear(h, weightHH, biasHH), cell: c)`; over a
/// sequence, the first product can be made for all steps at once.
/// - Parameters:
///   - gates: […, 4 · hidden], in PyTorch's order: input i, forget f, cell g, output o.
///   - cell: […, hidden], c.
/// - Returns: the next hidden state h' and cell c', […, hidden].
public func lstmCell(gates: Tensor, cell: Tensor) -> (hidden: Tensor, cell: Tensor) {
  let results = apply(.composite(.lstmCell), [gates, cell])
  return (results[0], results[1])
}

/// One step of a gated recurrent unit (Cho et al. 2014), given its gates before their activation:
/// r = σ(xᵣ + hᵣ), z = σ(x_z + h_z), n = tanh(xₙ + r hₙ), h' = (1 − z) n + z h.
///
/// The reset gate applies after the product, as in cuDNN and PyTorch, whose GRUCell is
/// `gruCell(inputGates: linear(x, weightIH, biasIH), hiddenGates: linear(h, weightHH, biasHH), hidden: h)`.
/// - Parameters:
///   - inputGates: […, 3 · hidden], in PyTorch's order: reset r, update z, new n; of the input.
///   - hiddenGates: […, 3 · hidden], of the hidden state.
///   - hidden: […, hidden], h.
/// - Returns: the next hidden state h', […, hidden].
public func gruCell(inputGates: Tensor, hiddenGates: Tensor, hidden: Tensor) -> Tensor {
  apply(.composite(.gruCell), inputGates, hiddenGates, hidden)
}

// MARK: Decompositions

/// The gates of a row, converted to the type of statistics.
private func split(_ gates: Tensor, _ count: Int, _ type: ElementType) -> [Tensor] {
  let axis = gates.rank - 1
  let n = gates.shape[axis] / count
  let wide = gates.converted(to: type)
  return (0..<count).map { wide.sliced(axis: axis, start: $0 * n, count: n) }
}

extension Composite {
  func decomposedRecurrent(_ x: [Tensor]) -> [Tensor] {
    let own = x[0].elementType
    let type: ElementType = own == .float64 ? .float64 : .float32
    let wide = x.map { $0.converted(to: type) }
    func joined(_ parts: [Tensor]) -> Tensor { concatenate(parts, axis: -1) }
    let results: [Tensor]
    switch self {
    case .lstmCell:
      let gates = split(x[0], 4, type)
      let cell = sigmoid(gates[1]) * wide[1] + sigmoid(gates[0]) * tanh(gates[2])
      results = [sigmoid(gates[3]) * tanh(cell), cell]
    case .lstmCellGradient:
      let (dh, dc, c) = (wide[0], wide[1], wide[3])
      let gates = split(x[2], 4, type)
      let (i, f, g, o) = (sigmoid(gates[0]), sigmoid(gates[1]), tanh(gates[2]), sigmoid(gates[3]))
      let t = tanh(f * c + i * g)
      let total = dc + dh * o * (1 - t * t)
      results = [
        joined([total * g * i * (1 - i), total * c * f * (1 - f), total * i * (1 - g * g), dh * t * o * (1 - o)]), total * f,
      ]
    case .gruCell:
      let (a, b, h) = (split(x[0], 3, type), split(x[1], 3, type), wide[2])
      let (r, z) = (sigmoid(a[0] + b[0]), sigmoid(a[1] + b[1]))
      let fresh = tanh(a[2] + r * b[2])
      results = [fresh + z * (h - fresh)]
    case .gruCellGradient:
      let (a, b) = (split(x[1], 3, type), split(x[2], 3, type))
      let (dy, h) = (wide[0], wide[3])
      let (r, z) = (sigmoid(a[0] + b[0]), sigmoid(a[1] + b[1]))
      let fresh = tanh(a[2] + r * b[2])
      let dfresh = dy * (1 - z) * (1 - fresh * fresh)
      let dr = dfresh * b[2] * r * (1 - r)
      let dz = dy * (h - fresh) * z * (1 - z)
      results = [joined([dr, dz, dfresh]), joined([dr, dz, dfresh * r]), dy * z]
    default: preconditionFailure("not a recurrent cell: \(name)")
    }
    return results.map { $0.converted(to: own) }
  }
}
