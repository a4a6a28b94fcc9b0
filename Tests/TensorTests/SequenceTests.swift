import ApusCPU
import CApusKernels
import Testing

@testable import ApusTensor

/// Attention, rotary embedding and recurrent cells as PyTorch's own functions give them.
@Suite struct SequenceTests {
  private func check(_ name: String, _ f: ([Tensor]) -> Tensor) throws {
    try GradientFixture.check(name, tolerance: 1e-13, f)
  }

  private func spread(_ shape: Shape, _ seed: Int, _ type: ElementType = .float64) -> Tensor {
    Input(shape, .unit, seed: seed).tensor(type)
  }

  private func attend(_ x: [Tensor]) -> Tensor { scaledDotProductAttention(x[0], x[1], x[2]) }

  /// A mask of three queries and five keys: the first sees two, the second none.
  private var hidden: Tensor {
    let seen = (0..<15).map { (i: Int) -> Bool in i < 2 || i >= 10 }
    return Tensor(seen, shape: [3, 5])
  }

  @Test func attentionOfPyTorch() throws {
    try check("attention", attend)
    try check("attention, scaled") { scaledDotProductAttention($0[0], $0[1], $0[2], scale: 0.3) }
    try check("attention, hidden") { [hidden] in scaledDotProductAttention($0[0], $0[1], $0[2], mask: hidden) }
    try check("attention, hidden") { [hidden] in
      let added = `where`(hidden, 0.0, Tensor.full([3, 5], -Double.infinity, .float64))
      return scaledDotProductAttention($0[0], $0[1], $0[2], mask: added)
    }
    try check("attention, causal") { scaledDotProductAttention($0[0], $0[1], $0[2], causal: true) }
    try check("attention, causal with earlier keys") { scaledDotProductAttention($0[0], $0[1], $0[2], causal: true) }
    try check("attention, added") { scaledDotProductAttention($0[0], $0[1], $0[2], mask: $0[3]) }
  }

  @Test func queriesThatSeeNothingHaveZeros() {
    let (q, k, v) = (spread([1, 2, 3, 4], 1), spread([1, 2, 5, 4], 2), spread([1, 2, 5, 3], 3))
    func loss(_ x: [Tensor]) -> Tensor { square(scaledDotProductAttention(x[0], x[1], x[2], mask: hidden)).sum() }
    let y = scaledDotProductAttention(q, k, v, mask: hidden)
    #expect(y[.ellipsis, 1, 0..<3].elements(as: Double.self).allSatisfy { $0 == 0 })
    let first = gradient(at: [q, k, v], of: loss)
    // Recording goes through the decomposition; its second gradients must not meet −∞ − −∞ either.
    let second = gradient(at: [q, k, v]) { x in gradient(at: x, of: loss).reduce(Tensor.zeros([], .float64)) { $0 + $1.sum() } }
    for g in first + second { #expect(g.elements(as: Double.self).allSatisfy { $0.isFinite }) }
    #expect(first[0][.ellipsis, 1, 0..<4].elements(as: Double.self).allSatisfy { $0 == 0 })
    // The infinities inside are no anomaly.
    withAnomalyDetection {
      let masked = [q, k, v, hidden.broadcast(to: [1, 2, 3, 5])]
      let composite = Composite.attention(scale: 0.5, causal: true)
      #expect(allClose(apply(.composite(composite), masked)[0], composite.decomposed(masked)[0]))
    }
    // More queries than keys: the first ones come before every key.
    let few = scaledDotProductAttention(q, k[.ellipsis, 0..<2, 0..<4], v[.ellipsis, 0..<2, 0..<3], causal: true)
    #expect(few[.ellipsis, 0, 0..<3].elements(as: Double.self).allSatisfy { $0 == 0 })
  }

  /// More queries and keys than a block has, several heads to one of keys, in each layout of a projection's heads.
  @Test(arguments: [(301, 530), (1, 1100), (140, 20), (17, 257)]) func blocksAgreeWithTheDecomposition(
    _ queries: Int, _ keys: Int
  )
    throws
  {
    func heads(_ count: Int, _ positions: Int, _ dim: Int, _ seed: Int, _ type: ElementType) -> Tensor {
      let rows = Input([2, positions, count * dim], .unit, seed: seed).tensor(type)
      return rows.reshaped([2, positions, count, dim]).transposed(1, 2)
    }
    for type in [ElementType.float64, .float32, .bfloat16] {
      for (causal, masked) in [(false, false), (true, false), (false, true)] {
        var inputs = [heads(4, queries, 16, 1, type), heads(2, keys, 16, 2, type), heads(2, keys, 24, 3, type)]
        if masked { inputs.append(spread([1, 1, 1, keys], 4, type).broadcast(to: [2, 4, queries, keys])) }
        let composite = Composite.attention(scale: 2, causal: causal)
        let results = try run(.composite(composite), inputs)
        // Heads and positions swapped back, rows are one again without a copy.
        #expect(results[0].transposed(1, 2).array.isRowMajor)
        let gradientOf = Composite.attentionGradient(scale: 2, causal: causal, forMask: masked)
        let dy = heads(4, queries, 24, 5, type)
        let operands = [dy] + inputs[..<3] + results + inputs[3...]
        let kernels = try results + run(.composite(gradientOf), operands)
        let references = composite.decomposed(inputs) + gradientOf.decomposed(operands)
        for (i, (kernel, reference)) in zip(kernels, references).enumerated() {
          #expect(kernel.type == reference.type)
          let scale = abs(`where`(isFinite(reference), reference, 0).converted(to: .float64)).max().item(as: Double.self)
          let problem = Reference(reference).mismatch(kernel, ulps: 64, magnitude: scale)
          #expect(problem == nil, "\(queries) queries, \(keys) keys, \(type), causal: \(causal), masked: \(masked), result \(i)")
        }
      }
    }
  }

  /// Forward and backward take a fraction of the memory that all scores would: 8 · 2048² numbers are 134 MB.
  @Test func scoresAreNeverAllInMemory() async {
    await #expect(processExitsWith: .success) {
      let x = (1...3).map { Parameter(Input([1, 8, 2048, 16], .unit, seed: $0).tensor(.float32)) }
      apus_reset_peak_memory()
      let before = apus_memory().in_use
      let loss = scaledDotProductAttention(x[0].value, x[1].value, x[2].value, causal: true).sum()
      precondition(loss.gradients(for: x)[x[0]] != nil)
      precondition(apus_memory().peak - before < 16 << 20)
    }
  }

  @Test func ropeOfOthers() throws {
    try check("rope, halves") { rope($0[0]) }
    try check("rope, later positions, part of a row") { x in
      rope(x[0], positions: Tensor([7, 8, 9], shape: [3]), theta: 500, dim: 4)
    }
    try check("rope, neighbours") { rope($0[0], interleaved: true) }
    // Positions of each sequence of a batch.
    let x = spread([2, 3, 2, 8], 1)
    let positions = Tensor([3, 4, 0, 1], shape: [2, 1, 2])
    let turned = rope(x, positions: positions)
    for (i, start) in [3, 0].enumerated() {
      let own = rope(x[i], positions: Tensor([start, start + 1], shape: [2]))
      #expect(turned[i].elements(as: Double.self) == own.elements(as: Double.self))
    }
  }

  /// The rotated rows need not be kept for a gradient.
  @Test func ropeKeepsNoInput() {
    let w = Parameter(spread([3, 4], 1))
    let y = rope(w.value)
    #expect(y.handle.node?.saved(0) == nil && y.handle.node?.saved(1) != nil)
  }

  @Test func cellsOfPyTorch() throws {
    func gates(_ x: Tensor, _ weight: Tensor, _ bias: Tensor) -> Tensor { apply(.composite(.linear), x, weight, bias) }
    try check("lstm cell") { x in
      let next = lstmCell(gates: gates(x[0], x[3], x[5]) + gates(x[1], x[4], x[6]), cell: x[2])
      return concatenate([next.hidden, next.cell], axis: 1)
    }
    try check("gru cell") { x in
      gruCell(inputGates: gates(x[0], x[2], x[4]), hiddenGates: gates(x[1], x[3], x[5]), hidden: x[1])
    }
    // A cell of which only the hidden state is used.
    let (a, c) = (spread([2, 8], 1), spread([2, 2], 2))
    expectGradient(a, "gates") { lstmCell(gates: $0, cell: c).hidden }
    expectGradient(c, "cell") { lstmCell(gates: a, cell: $0).cell }
  }

  /// What a caller's mistake is told.
  @Test func mistakes() {
    func message(_ composite: Composite, _ types: [TensorType]) -> String {
      do { _ = try Operation.composite(composite).infer(types) } catch { return error.description }
      return ""
    }
    func f(_ shape: Shape) -> TensorType { TensorType(shape, .float32) }
    let attention = Composite.attention(scale: 1, causal: false)
    #expect(
      message(attention, [f([1, 6, 3, 8]), f([1, 4, 3, 8]), f([1, 4, 3, 8])])
        == "attention: 6 heads of q cannot share 4 heads of k and v: they are no multiple of them")
    #expect(
      message(attention, [f([1, 4, 3, 8]), f([1, 4, 3, 9]), f([1, 4, 3, 8])])
        == "attention: q [1, 4, 3, 8] and k [1, 4, 3, 9] differ in the size of a head")
    #expect(
      message(attention, [f([1, 4, 3, 8]), f([1, 4, 5, 8]), f([1, 4, 5, 8]), f([1, 4, 3, 3])])
        == "attention: the mask has shape [1, 4, 3, 3], expected [1, 4, 3, 5]")
    #expect(
      message(.rope(interleaved: false, inverse: false), [f([3, 6]), f([3, 4]), f([3, 4])])
        == "rope: 4 angles turn 8 elements of a row, but the input of shape [3, 6] has 6")
    #expect(
      message(.lstmCell, [f([2, 6]), f([2, 2])])
        == "lstmCell: the gates are float32[2, 6], expected float32[2, 8]: 4 for each element of the state, float32[2, 2]")
  }
}
