import ApusTensor

/// What stands for a tensor while a graph of layers is being written: the result of a layer, or an ``Input``.
///
/// ```swift
/// let image = Input([1, 28, 28], name: "image"), age = Input([1], name: "age")
/// let features = Flatten()(relu(Conv2d(8, kernelSize: 3)(image)))
/// let joined = concatenate([features, age], axis: 1)
/// let model = try Model(inputs: [image, age], outputs: [Linear(10)(joined, name: "classes")])
/// ```
/// Layers are applied by calling them. Nothing is computed; shapes are known at once, and layers without an input size get
/// it. A layer that is applied several times is shared.
public class Node {
  /// One application of a module or a function.
  final class Call {
    /// Whose parameters take part; nil for a plain function.
    let module: Module?
    let name: String?
    /// What it is called if it has no name.
    let kind: String
    let inputs: [Node]
    let function: ([Tensor]) -> [Tensor]

    init(_ module: Module?, _ name: String?, _ kind: String, _ inputs: [Node], _ function: @escaping ([Tensor]) -> [Tensor]) {
      (self.module, self.name, self.kind, self.inputs, self.function) = (module, name, kind, inputs, function)
    }
  }

  /// What made it; nil for an input.
  let call: Call?
  /// Which of the call's results it is.
  let result: Int
  /// Shape and element type for a batch of one.
  public let type: TensorType

  init(_ call: Call?, _ result: Int, _ type: TensorType) { (self.call, self.result, self.type) = (call, result, type) }

  /// The shape for a batch of one, with the batch as first dimension.
  public final var shape: Shape { type.shape }
  public final var elementType: ElementType { type.elementType }

  // MARK: Applying

  /// A function of tensors as part of the graph.
  /// - Parameters:
  ///   - name: in summaries, and of the output; by default `function`.
  ///   - function: must not use modules of its own: their parameters would not be the model's. See ``apply(_:to:name:_:)``.
  public static func apply(to inputs: [Node], name: String? = nil, _ function: @escaping ([Tensor]) -> Tensor) -> Node {
    applied(nil, inputs, name, "function") { [function($0)] }[0]
  }

  /// A function with several results as part of the graph.
  public static func applyMany(to inputs: [Node], name: String? = nil, _ function: @escaping ([Tensor]) -> [Tensor]) -> [Node] {
    applied(nil, inputs, name, "function", function)
  }

  /// A module over several tensors as part of the graph.
  ///
  /// ```swift
  /// let mixed = Node.apply(attention, to: [query, memory]) { $0($1[0], $1[1], $1[1]) }
  /// ```
  public static func apply<M: Module>(
    _ module: M, to inputs: [Node], name: String? = nil, _ call: @escaping (M, [Tensor]) -> Tensor
  ) -> Node {
    applied(module, inputs, name, kind(of: module)) { [call(module, $0)] }[0]
  }

  /// A module with several results as part of the graph.
  ///
  /// ```swift
  /// let states = Node.applyMany(lstm, to: [words]) { lstm, x in let (y, (h, c)) = lstm(x[0]); return [y, h, c] }
  /// ```
  public static func applyMany<M: Module>(
    _ module: M, to inputs: [Node], name: String? = nil, _ call: @escaping (M, [Tensor]) -> [Tensor]
  ) -> [Node] {
    applied(module, inputs, name, kind(of: module)) { call(module, $0) }
  }

  /// A function of this node's tensor: `node.map { relu($0) }`.
  public final func map(name: String? = nil, _ function: @escaping (Tensor) -> Tensor) -> Node {
    Node.apply(to: [self], name: name) { function($0[0]) }
  }

  static func kind(of module: Module) -> String {
    let type = String(describing: Swift.type(of: module))
    return snakeCase(String(type.prefix { $0 != "<" }))
  }

  static func applied(
    _ module: Module?, _ inputs: [Node], _ name: String?, _ kind: String, _ function: @escaping ([Tensor]) -> [Tensor]
  ) -> [Node] {
    guard !inputs.isEmpty else { stop("\(name ?? kind): is applied to no nodes") }
    let types = inputs.map(\.type)
    func infer() -> [TensorType] { inferredTypes(types, function) }
    let results = module.map { $0.evaluating(infer) } ?? infer()
    let call = Call(module, name, kind, inputs, function)
    return results.enumerated().map { Node(call, $0.offset, $0.element) }
  }
}

/// A way into a graph of layers.
public final class Input: Node {
  /// By default `input`, with a number if there are several.
  public let name: String?

  /// - Parameter shape: of one sample, without the batch dimension.
  public init(_ shape: Shape, _ elementType: ElementType = .float32, name: String? = nil) {
    self.name = name
    super.init(nil, 0, TensorType(Shape([1] + Array(shape)), elementType))
  }
}

extension Layer {
  /// The layer as part of a graph.
  /// - Parameter name: of its parameters and in summaries; by default its type's, such as `linear`, with a number if there are
  ///   several.
  public func callAsFunction(_ node: Node, name: String? = nil) -> Node {
    Node.applied(self, [node], name, Node.kind(of: self)) { [self.invoked($0[0])] }[0]
  }
}

extension MergeLayer {
  /// The layer as part of a graph.
  public final func callAsFunction(_ nodes: [Node], name: String? = nil) -> Node {
    Node.apply(self, to: nodes, name: name) { $0($1) }
  }

  /// The layer as part of a graph.
  public final func callAsFunction(_ nodes: Node..., name: String? = nil) -> Node { self(nodes, name: name) }
}

// MARK: Functions of nodes

extension Node {
  private static func operation(_ kind: String, _ a: Node, _ b: Node, _ f: @escaping (Tensor, Tensor) -> Tensor) -> Node {
    applied(nil, [a, b], nil, kind) { [f($0[0], $0[1])] }[0]
  }
  private static func operation(_ kind: String, _ a: Node, _ f: @escaping (Tensor) -> Tensor) -> Node {
    applied(nil, [a], nil, kind) { [f($0[0])] }[0]
  }

  public static func + (a: Node, b: Node) -> Node { operation("add", a, b) { $0 + $1 } }
  public static func - (a: Node, b: Node) -> Node { operation("subtract", a, b) { $0 - $1 } }
  public static func * (a: Node, b: Node) -> Node { operation("multiply", a, b) { $0 * $1 } }
  public static func / (a: Node, b: Node) -> Node { operation("divide", a, b) { $0 / $1 } }
  public static func + (a: Node, b: some TensorScalar) -> Node { operation("add", a) { $0 + b } }
  public static func - (a: Node, b: some TensorScalar) -> Node { operation("subtract", a) { $0 - b } }
  public static func * (a: Node, b: some TensorScalar) -> Node { operation("multiply", a) { $0 * b } }
  public static func / (a: Node, b: some TensorScalar) -> Node { operation("divide", a) { $0 / b } }
  public static func + (a: some TensorScalar, b: Node) -> Node { operation("add", b) { a + $0 } }
  public static func - (a: some TensorScalar, b: Node) -> Node { operation("subtract", b) { a - $0 } }
  public static func * (a: some TensorScalar, b: Node) -> Node { operation("multiply", b) { a * $0 } }
  public static func / (a: some TensorScalar, b: Node) -> Node { operation("divide", b) { a / $0 } }
  public static prefix func - (a: Node) -> Node { operation("negative", a) { -$0 } }
}

/// The nodes' tensors one after another along an axis; axis 0 is the batch.
public func concatenate(_ nodes: [Node], axis: Int = 1, name: String? = nil) -> Node {
  Node.applied(nil, nodes, name, "concatenate") { [concatenate($0, axis: axis)] }[0]
}
/// The larger element.
public func maximum(_ a: Node, _ b: Node) -> Node { Node.applied(nil, [a, b], nil, "maximum") { [maximum($0[0], $0[1])] }[0] }
/// The smaller element.
public func minimum(_ a: Node, _ b: Node) -> Node { Node.applied(nil, [a, b], nil, "minimum") { [minimum($0[0], $0[1])] }[0] }
/// max(x, 0).
public func relu(_ x: Node) -> Node { Node.applied(nil, [x], nil, "relu") { [relu($0[0])] }[0] }
