import ApusTensor
import Testing

private let lineInExtension = #line + 3
extension Tensor {
  /// Somebody else's method on a type of Apus's: the mistake is in here, not at its caller.
  func squaredProduct() -> Tensor { self.matmul(self) * 2 }
}

/// Whose line a stopped program names.
@Suite struct CallerTests {
  @Test func anExtensionOfApussTypesIsTheCallersCode() async {
    let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      _ = Tensor.zeros([2, 3]).squaredProduct()
    }
    let message = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
    #expect(message.contains("CallerTests.swift:\(lineInExtension))"), "\(message)")
  }
}
