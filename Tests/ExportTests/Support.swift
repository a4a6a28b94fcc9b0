import Apus
import Foundation
import Testing

/// Calls `body` with a new folder that is removed afterwards.
func withTemporaryFolder<R>(_ body: (String) throws -> R) throws -> R {
  let folder = FileManager.default.temporaryDirectory.appendingPathComponent("apus-tests-\(UUID().uuidString)")
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(at: folder) }
  return try body(folder.path)
}

func bytes(_ tensor: Tensor) -> [UInt8] { tensor.withUnsafeBytes { Array($0) } }

/// The same type and bits.
func expectSame(_ a: Tensor?, _ b: Tensor, _ comment: Comment? = nil, sourceLocation: SourceLocation = #_sourceLocation) {
  guard let a else {
    Issue.record("there is no tensor", sourceLocation: sourceLocation)
    return
  }
  #expect(a.type == b.type, comment, sourceLocation: sourceLocation)
  #expect(bytes(a) == bytes(b), comment, sourceLocation: sourceLocation)
}

final class SmallNet: Module, Layer {
  let conv = Conv2d(1, 4, kernelSize: 3, padding: 1)
  let bn = BatchNorm2d(4)
  let dropout = Dropout(0.5)
  let head = Linear(4 * 4 * 4, 10)

  func callAsFunction(_ x: Tensor) -> Tensor {
    let x = maxPool2d(relu(bn(conv(x))), kernelSize: 2)
    return head(dropout(x.flattened(from: 1)))
  }
}

func smallNet() -> SmallNet {
  seed(3)
  let model = SmallNet()
  // Statistics that are not those of a new layer.
  model.train()
  for i in 0..<3 { _ = model(Tensor.randn([6, 1, 8, 8], generator: Generator(seed: UInt64(i)))) }
  return model
}
