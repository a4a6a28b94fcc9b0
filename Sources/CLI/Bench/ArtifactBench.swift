import Apus
import ArgumentParser

extension Workload {
  /// An artifact as a workload: one run on random inputs of the smallest sizes, or those given.
  /// - Parameter sizes: of open dimensions, as in `batch=8`.
  static func artifact(_ path: String, signature: String?, sizes: [String]) throws -> Workload {
    let program = try load(path)
    let (name, signature) = try program.signature(named: signature)
    let sizes = try InputSizes(sizes).complete(for: signature)
    var inputs: [String: Tensor] = [:]
    for (i, input) in signature.inputs.enumerated() {
      let shape = Shape(
        input.spec.dimensions.map { dimension in
          switch dimension {
          case .fixed(let size): size
          case .open(let name, _): sizes[name] ?? 1
          }
        })
      // Integers are mostly indices, of which 0 and 1 always exist.
      let generator = Generator(seed: UInt64(i))
      let isFloating = input.spec.elementType.isFloatingPoint
      inputs[input.name] =
        (isFloating ? Tensor.randn(shape, generator: generator) : Tensor.integers(0..<2, shape, generator: generator))
        .converted(to: input.spec.elementType)
    }
    // Whatever does not fit is said now, not in the middle of measuring.
    _ = try program.run(inputs, signature: name)
    let text = sizes.sorted { $0.key < $1.key }.map { " \($0.key)=\($0.value)" }.joined()
    let arguments = inputs
    return Workload(name: path + " " + name + text, items: Double(sizes["batch"] ?? 1), unit: "sample/s") { _ in
      {
        do { _ = try program.run(arguments, signature: name) } catch { preconditionFailure("\(error)") }
      }
    }
  }

  static func isArtifact(_ name: String) -> Bool { name.hasSuffix(".apus") || name.hasSuffix(".apus/") }
}
