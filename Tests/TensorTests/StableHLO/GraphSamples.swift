import ApusCPU

@testable import ApusTensor

/// A program with operands to run it on.
struct GraphSample: CustomStringConvertible {
  var name: String
  var graph: Graph
  var inputs: [Tensor]
  /// As ``Sample``.
  var ulps = 4.0
  var magnitude = 1.0

  var description: String { name }

  /// One operation.
  init(_ sample: Sample, _ type: ElementType) throws {
    name = "\(sample.text(TypeGroup(type))) in \(type)"
    inputs = sample.tensors(type)
    graph = Graph()
    for input in inputs { graph.addInput(input.type) }
    graph.setOutputs(Array(try graph.append(sample.operation, Array(graph.inputs))))
    ulps = sample.ulps
    magnitude = sample.magnitude
  }

  init(_ name: String, _ inputs: [Tensor], _ body: (inout Graph) throws -> [Graph.Value]) rethrows {
    self.name = name
    self.inputs = inputs
    var graph = Graph()
    for (i, input) in inputs.enumerated() { graph.addInput(input.type, name: i == 0 ? "" : "input \(i)") }
    let outputs = try body(&graph)
    graph.setOutputs(outputs, names: outputs.indices.map { "result \($0)" })
    self.graph = graph
  }

  /// Every sample of every operation, in these of its types.
  static func operations(_ family: Family, types: Set<ElementType> = Set(ElementType.allCases)) throws -> [GraphSample] {
    try family.samples.flatMap { sample in
      try sample.types.filter(types.contains).map { try GraphSample(sample, $0) }
    }
  }

  private static func function(_ name: String, _ types: [TensorType], _ body: (inout Graph) throws -> [Graph.Value]) rethrows
    -> Function
  {
    var graph = Graph()
    for type in types { graph.addInput(type) }
    let outputs = try body(&graph)
    graph.setOutputs(outputs)
    return Function(name, graph)
  }

  private static let vector = TensorType([3], .float32)
  private static let scalar = TensorType([], .float32)

  private static func add(_ graph: inout Graph, _ operation: Operation, _ inputs: Graph.Value...) throws -> Graph.Value {
    try graph.append(operation, inputs).lowerBound
  }

  /// x · k while the sum of x is below 100.
  static func loop() throws -> WhileLoop {
    let types = [vector, TensorType([], .int64), scalar]
    let condition = try function("below 100", types) { g in
      let sum = try add(&g, .reduce(.sum, [0], keepDims: false), 0)
      return [try add(&g, .compare(.less), sum, try add(&g, .fill([], .float32, .double(100))))]
    }
    let body = try function("times", types) { g in
      let wide = try add(&g, .broadcast([3]), 2)
      let one = try add(&g, .fill([], .int64, .int(1)))
      return [try add(&g, .binary(.mul), 0, wide), try add(&g, .binary(.add), 1, one)]
    }
    return WhileLoop(condition: condition, body: body, carried: 2)
  }

  /// Control flow, constants, optimizers: what has no samples among the operations.
  static func programs() throws -> [GraphSample] {
    let x = Tensor([1.5, 2, -0.5] as [Float], shape: [3])
    let k = Tensor([1.75] as [Float], shape: [])
    let zero = Tensor([0] as [Int64], shape: [])
    var samples: [GraphSample] = []

    samples.append(
      try GraphSample("constants", []) { g in
        let tensors = [
          Tensor([1.5, -0.0, 3e-9, 1e30] as [Float], shape: [2, 2]), Tensor([Float.nan], shape: []),
          Tensor([true, false], shape: [2]),
          Tensor.zeros([0, 3]), Tensor((0..<100).map { Double($0) / 7 }, shape: [100]),
          Tensor([Int64.min, -1, Int64.max], shape: [3]), Tensor([-7] as [Int64], shape: []), Tensor([true], shape: []),
          Tensor([1.0, .infinity, 0.1] as [Float], shape: [3]).converted(to: .bfloat16),
          Tensor([1.0, -.infinity, 0.1] as [Float], shape: [3]).converted(to: .float16),
          Tensor([2, 2] as [Float], shape: [2]), Tensor((0..<70).map { $0 % 3 == 0 }, shape: [70]),
          Tensor([250, 3] as [Int64], shape: [2]).converted(to: .uint8),
        ]
        return try tensors.map { try add(&g, .constant($0.array.asConstant)) }
      })
    samples.append(
      try GraphSample("fills", []) { g in
        try ElementType.allCases.flatMap { type -> [Graph.Value] in
          let values: [Scalar] =
            type == .bool
            ? [.bool(true), .bool(false)]
            : type.isInteger
              ? [.int(3), .int(type.isSigned ? -3 : 200)] : [.double(0.1), .double(-.infinity), .double(1e-5), .double(1e20)]
          return try values.map { try add(&g, .fill($0 == values[0] ? [2, 0, 3] : [2], type, $0)) }
        }
      })
    let (then, otherwise) = (
      try function("then", [vector, scalar]) { g in [try add(&g, .binary(.mul), 0, try add(&g, .broadcast([3]), 1))] },
      try function("else", [vector, scalar]) { g in [try add(&g, .unary(.neg), 0)] }
    )
    for isTrue in [true, false] {
      samples.append(
        try GraphSample("conditional \(isTrue)", [Tensor([isTrue], shape: []), x, k]) { g in
          Array(try g.append(.conditional(then: then, otherwise: otherwise), [0, 1, 2]))
        })
    }
    samples.append(
      try GraphSample("while", [x, zero, k]) { g in Array(try g.append(.whileLoop(try loop()), [0, 1, 2])) })
    let types = [vector, TensorType([], .int64), scalar]
    let pullback = try function("pullback", types + types[..<2]) { g in
      let wide = try add(&g, .broadcast([3]), 2)
      let product = try add(&g, .binary(.mul), 3, 0)
      return [
        try add(&g, .binary(.mul), 3, wide), 4, try add(&g, .reduce(.sum, [0], keepDims: false), product),
      ]
    }
    samples.append(
      try GraphSample("while gradient", [x, zero, k, Tensor([1, 2, 3] as [Float], shape: [3]), zero]) { g in
        Array(try g.append(.whileLoopGradient(try loop(), pullback: pullback), [0, 1, 2, 3, 4]))
      })
    let step = try function("step \"quoted\" é", [vector, vector, scalar]) { g in
      let sum = try add(&g, .binary(.add), 0, 1)
      let next = try add(&g, .binary(.mul), sum, try add(&g, .broadcast([3]), 2))
      return [next, try add(&g, .reduce(.max, [0], keepDims: false), sum), sum]
    }
    let sequence = Tensor((0..<12).map { Float($0) / 4 }, shape: [4, 3])
    for reverse in [false, true] {
      samples.append(
        try GraphSample("scan reverse=\(reverse)", [x, sequence, k]) { g in
          Array(
            try g.append(
              .scanLoop(ScanLoop(body: step, carried: 1, sequences: 1, length: 4, reverse: reverse)), [0, 1, 2]))
        })
    }
    var fused = try function("relu of sum", [vector, vector]) { g in
      [try add(&g, .unary(.relu), try add(&g, .binary(.add), 0, 1))]
    }
    fused.role = .fusion
    samples.append(
      try GraphSample("calls", [x, x]) { g in
        let a = try g.append(.call(fused), [0, 1])
        let b = try g.append(.call(then), [a.lowerBound, try add(&g, .reduce(.sum, [0], keepDims: false), 1)])
        let c = try g.append(.call(then), [b.lowerBound, try add(&g, .reduce(.sum, [0], keepDims: false), 1)])
        return [c.lowerBound, a.lowerBound, 0]
      })
    for rule in rules {
      let states = Array(repeating: x * x, count: rule.stateCount)
      samples.append(
        try GraphSample(
          "\(rule.kind) \(rule.stateCount)",
          [x, x + 1] + states
            + [Tensor([0.1, 0.01, 0.3][..<rule.optionCount], shape: [rule.optionCount]), Tensor([3] as [Int64], shape: [])]
        ) { g in Array(try g.append(.composite(.optimizerStep(rule)), Array(g.inputs))) })
    }
    samples += try randoms()
    return samples
  }

  static let rules: [OptimizerRule] = {
    var sgd = OptimizerRule(.sgd)
    var momentum = sgd
    (momentum.momentum, momentum.nesterov) = (0.9, true)
    sgd.maximize = true
    var adam = OptimizerRule(.adam)
    (adam.beta1, adam.beta2, adam.epsilon) = (0.9, 0.999, 1e-8)
    var amsgrad = adam
    (amsgrad.amsgrad, amsgrad.decoupledWeightDecay) = (true, true)
    var rmsprop = OptimizerRule(.rmsprop)
    (rmsprop.beta2, rmsprop.epsilon, rmsprop.momentum, rmsprop.centered) = (0.99, 1e-8, 0.9, true)
    var others = [OptimizerRule.Kind.adamax, .nadam, .radam, .adagrad, .adadelta, .lion].map { kind in
      var rule = OptimizerRule(kind)
      (rule.beta1, rule.beta2, rule.epsilon, rule.momentum, rule.dampening) = (0.9, 0.99, 1e-6, 0.004, 0.1)
      return rule
    }
    others[5].decoupledWeightDecay = true
    return [sgd, momentum, adam, amsgrad, rmsprop] + others
  }()

  /// Draws with a counter that begins inside of a block, and with none.
  private static func randoms() throws -> [GraphSample] {
    let real: [ElementType] = [.float64, .float32, .float16, .bfloat16]
    var parameters: [RandomParameters] = real.flatMap { type in
      [
        RandomParameters(.uniform(low: -1, high: 2), [3, 7], type),
        RandomParameters(.normal(mean: 1, standardDeviation: 2), [19], type),
        RandomParameters(.truncatedNormal(mean: 0, standardDeviation: 1, low: -1, high: 3), [23], type),
        RandomParameters(.truncatedNormal(mean: 0, standardDeviation: 1, low: 1, high: 1.5), [5], type),
      ]
    }
    parameters += [
      RandomParameters(.bernoulli(probability: 0.3), [50], .bool), RandomParameters(.permutation, [17], .int64),
      RandomParameters(.bits, [9], .int32), RandomParameters(.integers(low: -5, high: 100), [30], .int32),
      RandomParameters(.integers(low: -(1 << 62), high: 1 << 62), [30], .int64),
      RandomParameters(.integers(low: 0, high: 1 << 40), [4], .int64),
      RandomParameters(.uniform(low: 0, high: 1), [0, 2], .float32),
    ]
    return try parameters.enumerated().map { i, p in
      var sample = try GraphSample(
        "random \(p.kind) \(p.shape) \(p.elementType)", [Tensor([0x1234_5678_9abc, Int64(i)], shape: [2])]
      ) { g in
        Array(try g.append(.random(p), [0]))
      }
      sample.ulps = 64
      return sample
    }
  }

  /// What the engine makes of it.
  func results() throws -> [Tensor] { try CPU.run(graph, inputs.map(\.array)).map { Tensor(array: $0) } }
}
