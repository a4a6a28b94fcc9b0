import ApusTensor

/// An activation function by its name, as in Keras's `Activation("relu")`, or any function of a tensor.
public final class Activation: Module, Layer {
  public let name: String
  private let function: @Sendable (Tensor) -> Tensor

  /// - Parameter name: one of ``names``, in Keras's or PyTorch's spelling: `hard_swish`, `hardSwish` and `hardswish` are one.
  public init(_ name: String) {
    guard let function = Activation.function(named: name) else {
      stop("Activation: there is no function \"\(name)\"; there are \(Activation.names.joined(separator: ", "))")
    }
    (self.name, self.function) = (name, function)
  }

  /// - Parameter name: what it is called when the module is printed.
  public init(_ name: String = "function", _ function: @escaping @Sendable (Tensor) -> Tensor) {
    (self.name, self.function) = (name, function)
  }

  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(function(received(x))) }

  override var members: [Member] { [] }
  override var arguments: String { name }

  /// The names that ``init(_:)`` knows, in Keras's spelling, in order.
  public static var names: [String] { functions.map(\.name) }

  /// The activation of a name, with its default options; nil if there is none.
  public static func function(named name: String) -> (@Sendable (Tensor) -> Tensor)? {
    let key = plain(name)
    return functions.first { plain($0.name) == key }?.function
  }

  private static func plain(_ name: String) -> String { name.lowercased().filter { $0 != "_" } }

  /// Names in Keras's spelling. Defaults where the two differ, and the slope of `leaky_relu`, are PyTorch's.
  private static let functions: [(name: String, function: @Sendable (Tensor) -> Tensor)] = [
    ("celu", { celu($0) }), ("elu", { elu($0) }), ("exponential", { exp($0) }), ("gelu", { gelu($0) }), ("glu", { glu($0) }),
    ("hard_shrink", { hardShrink($0) }), ("hard_sigmoid", { hardSigmoid($0) }), ("hard_silu", { hardSwish($0) }),
    ("hard_swish", { hardSwish($0) }), ("hard_tanh", { hardTanh($0) }), ("leaky_relu", { leakyRelu($0) }), ("linear", { $0 }),
    ("log_sigmoid", { logSigmoid($0) }), ("log_softmax", { logSoftmax($0) }), ("mish", { mish($0) }), ("relu", { relu($0) }),
    ("relu6", { relu6($0) }), ("selu", { selu($0) }), ("sigmoid", { sigmoid($0) }), ("silu", { silu($0) }),
    ("soft_shrink", { softShrink($0) }), ("softmax", { softmax($0) }), ("softmin", { softmin($0) }),
    ("softplus", { softplus($0) }), ("softsign", { softsign($0) }), ("sparse_plus", { sparsePlus($0) }),
    ("sparse_sigmoid", { sparseSigmoid($0) }), ("sparsemax", { sparsemax($0) }), ("squareplus", { squareplus($0) }),
    ("swish", { silu($0) }), ("tanh", { tanh($0) }), ("tanh_shrink", { tanhShrink($0) }),
  ]
}
