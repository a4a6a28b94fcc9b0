import ApusTensor
import Testing

@Suite struct EinsumTests {
  /// The operands of make_indexing.py: sin(1 + k), sin(2 + k), … for operand k.
  static func operands(_ shapes: [[Int]]) -> [Tensor] {
    shapes.enumerated().map { k, sizes in
      let shape = Shape(sizes)
      return sin(Tensor.arange(shape.elementCount).converted(to: .float64) + Double(1 + k)).reshaped(shape)
    }
  }

  @Test func asNumPy() throws {
    let cases = try #require(try IndexingFixtures.all()["einsum"] as? [[String: Any]])
    #expect(cases.count > 30)
    for object in cases {
      let equation = try #require(object["equation"] as? String)
      let shapes = try #require(object["shapes"] as? [[Int]])
      // The order of the sums differs from NumPy's.
      expectEqual(einsum(equation, Self.operands(shapes)), try IndexingFixtures.Case(object), tolerance: 1e-14, equation)
    }
  }

  @Test func gradients() {
    for (equation, shapes) in [
      ("bij,bjk->bik", [[2, 2, 3], [2, 3, 2]]), ("iij->ji", [[3, 3, 2]]), ("ij,jk,kl->il", [[2, 3], [3, 2], [2, 2]]),
      ("...i,i->...", [[2, 2, 3], [3]]), ("ij,i,k->kj", [[2, 3], [2], [2]]), ("ij,jk->ik", [[3, 1], [4, 2]]),
    ] {
      let operands = Self.operands(shapes)
      for k in operands.indices {
        expectGradient(operands[k], "\(equation) by operand \(k)") { x in
          var all = operands
          all[k] = x
          return einsum(equation, all)
        }
      }
    }
  }

  @Test func otherTypes() {
    let (a, b) = (Tensor([[1, 2], [3, 4]]), Tensor([[5, 6], [7, 8]]))
    for type in [ElementType.float16, .bfloat16, .float32, .float64, .int32, .int64] {
      let product = einsum("ij,jk->ik", a.converted(to: type), b.converted(to: type))
      #expect(product.elementType == type)
      #expect(product.elements(as: Int.self) == [19, 22, 43, 50])
    }
    #expect(einsum("ij,jk", a.converted(to: .int32), b).elementType == .float32)
  }

  @Test func relatives() throws {
    let a = sin(Tensor.arange(24).converted(to: .float64)).reshaped(2, 3, 4)
    let b = cos(Tensor.arange(24).converted(to: .float64)).reshaped(4, 3, 2)
    expectEqual(tensordot(a, b, axes: ([1, 0], [1, 2])), try IndexingFixtures.value("tensordot"), tolerance: 1e-14)
    expectEqual(tensordot(a, b, axes: 1), try IndexingFixtures.value("tensordot 1"), tolerance: 1e-14)
    expectEqual(inner(a, b.reshaped(2, 3, 4)), try IndexingFixtures.value("inner"), tolerance: 1e-14)
    expectEqual(kron(a[0], b[0]), try IndexingFixtures.value("kron"), tolerance: 1e-15)
    #expect(tensordot(Tensor([1, 2]), Tensor([3, 4]), axes: 0).floats == [3, 4, 6, 8])
  }

  @Test func messagesNameLetterAndSizes() async {
    func message(_ result: ExitTest.Result?) -> String { String(decoding: result?.standardErrorContent ?? [], as: UTF8.self) }
    let sizes = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      _ = einsum("ij,jk->ik", Tensor.zeros([2, 3]), Tensor.zeros([4, 5]))
    }
    #expect(
      message(sizes).contains(
        "Apus: einsum: 'j' has size 3 in operand 0 of shape [2, 3], size 4 in operand 1 of shape [4, 5] in \"ij,jk->ik\""))
    let rank = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      _ = einsum("ijk", Tensor.zeros([2, 3]))
    }
    #expect(
      message(rank).contains("Apus: einsum: operand 0 of shape [2, 3] does not have the 3 dimensions of \"ijk\" in \"ijk\""))
    let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      _ = einsum("i->ij", Tensor.zeros([2]))
    }
    #expect(message(result).contains("Apus: einsum: the result's letter 'j' is in no operand in \"i->ij\""))
    let count = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      _ = einsum("i,i", Tensor.zeros([2]))
    }
    #expect(message(count).contains("Apus: einsum: \"i,i\" names 2 operands, got 1"))
    let diagonal = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      _ = einsum("ii", Tensor.zeros([2, 3]))
    }
    #expect(message(diagonal).contains("'i' has size 2 in operand 0 of shape [2, 3], size 3 in operand 0 of shape [2, 3]"))
  }
}
