import ApusTensor
import Testing

@Suite struct LiteralTests {
  @Test func nestedNumbersAreFloat32() {
    let x = Tensor([[1, 2], [3, 4]])
    #expect(x.type == TensorType([2, 2], .float32))
    #expect(x.floats == [1, 2, 3, 4])
    let y: Tensor = [[[1.5], [-2]], [[3], [4e3]]]
    #expect(y.type == TensorType([2, 2, 1], .float32))
    #expect(y.floats == [1.5, -2, 3, 4000])
    #expect(Tensor([1, -.infinity]).floats == [1, -.infinity])
    #expect(Tensor([[], []]).shape == [2, 0])
    #expect(Tensor([]).type == TensorType([0], .float32))
  }

  @Test func typesThatAreNamed() {
    #expect(Tensor([1, 0, 300], .int32).elements(as: Int32.self) == [1, 0, 300])
    #expect(Tensor([1, 9_007_199_254_740_993], .int64).elements(as: Int.self) == [1, 9_007_199_254_740_993])
    #expect(Tensor([2.7, -2.7], .int8).elements(as: Int.self) == [2, -2])
    #expect(Tensor([[true], [false]]).type == TensorType([2, 1], .bool))
    #expect(Tensor([0, 2.5], .bool).elements(as: Bool.self) == [false, true])
    for type in ElementType.allCases {
      let x = Tensor([[1, 0], [0, 1]], type)
      #expect(x.type == TensorType([2, 2], type))
      #expect(x.elements(as: Double.self) == [1, 0, 0, 1])
    }
  }

  @Test func arraysKeepTheirType() {
    let rows: [[Int32]] = [[1, 2, 3], [4, 5, 6]]
    #expect(Tensor(rows).type == TensorType([2, 3], .int32))
    #expect(Tensor(rows).elements(as: Int.self) == [1, 2, 3, 4, 5, 6])
    let values: [Double] = [0.1, 0.2]
    #expect(Tensor(values).elements(as: Double.self) == values)
    #expect(Tensor(values, .float32).floats == [0.1, 0.2])
    #expect(Tensor([[values], [values]]).shape == [2, 1, 2])
  }

  @Test func literalsBesideTensors() {
    #expect((Tensor([1, 2]) + [10, 20]).floats == [11, 22])
    #expect(Tensor(1).type == TensorType([], .int64) && Tensor(0.5).type == TensorType([], .float32))
    // Numbers stay numbers where tensors have the same operators.
    #expect([(1 << 3, "eight")].allSatisfy { $0.0 == 8 })
  }

  @Test func raggedListsNameThePlace() async {
    func message(_ result: ExitTest.Result?) -> String { String(decoding: result?.standardErrorContent ?? [], as: UTF8.self) }
    let ragged = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { _ = Tensor([[1, 2], [3]]) }
    #expect(message(ragged).contains("Apus: Tensor: ragged lists: the list at [1] has length 1, those before it 2"))
    let deeper = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { _ = Tensor([1, [2]]) }
    #expect(message(deeper).contains("Apus: Tensor: element [1] is a list where others are numbers"))
    let number = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { _ = Tensor([[1], 2]) }
    #expect(message(number).contains("Apus: Tensor: element [1] is a number where others are lists"))
    let array = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      let rows: [[Float]] = [[1], [2, 3]]
      _ = Tensor(rows)
    }
    #expect(message(array).contains("Apus: Tensor: ragged lists: the list at [1] has length 2, those before it 1"))
  }
}
