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
