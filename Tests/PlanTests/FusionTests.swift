import Testing

@testable import ApusCPU
@testable import ApusIR

@Suite struct FusionTests {
  private func fused(_ source: Graph) throws -> Graph {
    let after = Fusion.run(simplified(source))
    try after.verify()
    return after
  }

  private func expectSame(_ source: Graph, sourceLocation: SourceLocation = #_sourceLocation) throws {
    let inputs = arrays(source.inputTypes)
    let plan = Plan(source)
    try plan.graph.verify()
    expectSafe(plan, sourceLocation: sourceLocation)
    #expect(try plan.run(inputs).map(bits) == CPU.run(source, inputs).map(bits), sourceLocation: sourceLocation)
  }

  @Test func chainsAreOneKernel() throws {
    let source = graph([float([5, 7]), float([5, 7])]) { _, x in [((x[0] + x[1]).unary(.exp) * 2.0 - x[1]).unary(.tanh)] }
    let after = try fused(source)
    #expect(withoutDeadCode(after).nodes.count == 1 && Plan(source).kernelCount == 1)
    try expectSame(source)
  }

  @Test func groupsHaveSeveralResults() throws {
    let source = graph([float([5, 7]), float([5, 7])]) { _, x in
      let a = (x[0] + x[1]).unary(.exp)
      let b = a * x[1]
      return [a, b.unary(.sin), b]
    }
    let after = withoutDeadCode(try fused(source))
    #expect(after.nodes.count == 1 && after.nodes[0].resultCount == 3)
    try expectSame(source)
  }

  /// Layer norm's formula: reductions along rows between elementwise work, one pass.
  @Test func rowReductionsAreInside() throws {
    let source = graph([float([6, 40])]) { _, x in
      let centred = x[0] - x[0].reduce(.max, [1], keepDims: true)
      let e = centred.unary(.exp)
      return [e * (1 / e.reduce(.max, [1], keepDims: true)) + e.sum([0, 1]).reshape([1, 1])]
    }
    try expectSame(source)
    let rows = graph([float([6, 40])]) { b, x in
      let top = b.apply(.reduce(.max, [1], keepDims: true), x)[0]
      return [(x[0] - top.broadcast([6, 40])).unary(.exp)]
    }
    #expect(Plan(rows).kernelCount == 1, "\(Plan(rows).graph.names)")
    try expectSame(rows)
  }

  /// A group may not wait for something that waits for it.
  @Test func groupsNeverMakeCycles() throws {
    let source = graph([float([9, 9])]) { b, x in
      let a = x[0].unary(.exp)
      let turned = a.matmul(a)  // needs a, and the end needs both
      return [(a + turned).unary(.sin), turned]
    }
    let after = try fused(source)
    #expect(after.names.contains("matmul"))
    try expectSame(source)
    let through = graph([float([9, 9])]) { b, x in
      let a = x[0].unary(.exp)
      let sums = a.sum([0]).broadcast([9, 9])  // of columns: not a part of the group
      return [a * sums, a + 1.0]
    }
    try fused(through).verify()
    try expectSame(through)
  }

  @Test(arguments: [ElementType.float32, .float64, .bfloat16, .int32, .bool, .float16, .uint8])
  func randomGraphs(_ type: ElementType) throws {
    // What the graphs are for: groups of several results, with reductions of rows, in other orders of memory than row-major.
    var (several, reductions, turned) = (0, 0, 0)
    for kind in RandomGraph.Kind.allCases where kind == .whole || type.isFloatingPoint {
      for seed in 0..<60 {
        let source = RandomGraph.make(kind, type, seed: seed)
        try source.verify()
        let inputs = arrays(source.inputTypes, seed: seed, range: 3, whole: kind == .whole)
        let plan = Plan(source)
        try plan.graph.verify()
        try fused(source).verify()
        for step in plan.steps {
          guard let kernel = step.kernel as? TileKernel else { continue }
          several += step.out.count > 1 ? 1 : 0
          reductions += kernel.program.hasRowReduction ? 1 : 0
          turned += step.out.contains { !$0.layout.isRowMajor } ? 1 : 0
        }
        expectSafe(plan, "\(type), \(kind), seed \(seed)")
        let reference = try CPU.run(source, inputs)
        let results = try plan.run(inputs)
        // Twice, since the second run meets memory that the first one wrote.
        let again = try plan.run(inputs)
        #expect(results.map(bits) == again.map(bits), "\(type), \(kind), seed \(seed)")
        for (i, (result, expected)) in zip(results, reference).enumerated() {
          #expect(result.type == expected.type)
          // Zeros of sums may have another sign.
          let same = kind == .whole ? distance(result, expected) == 0 : bits(result) == bits(expected)
          #expect(same, "\(type), \(kind), seed \(seed), result \(i): \(distance(result, expected)) \(plan.graph.names)")
        }
      }
    }
    #expect(several > 5 && turned > 5 && (reductions > 5 || !type.isFloatingPoint), "\(several), \(reductions), \(turned)")
  }

  /// Sums of fractions may be added in another order than by the reduction's own kernel: within n ε Σ|x|.
  @Test(arguments: [ElementType.float32, .float64]) func rowSumsAreWithinTheirBound(_ type: ElementType) throws {
    for columns in [2, 15, 64, 1000, 4096] {
      let source = graph([TensorType([7, columns], type)]) { b, x in
        let sum = b.apply(.reduce(.sum, [1], keepDims: true), [x[0].unary(.exp)])[0]
        return [x[0] - sum.broadcast([7, columns])]
      }
      let inputs = arrays(source.inputTypes, range: 2)
      let (result, expected) = (try Plan(source).run(inputs)[0], try CPU.run(source, inputs)[0])
      let bound = Double(columns) * (type == .float32 ? 0x1p-23 : 0x1p-52)
      #expect(distance(result, expected) <= bound)
    }
  }
}
