import Testing

@testable import ApusTensor

@Suite struct PrintingTests {
  @Test func asNumPyLaysItOut() throws {
    let cases = try #require(try IndexingFixtures.all()["print"] as? [[String: Any]])
    #expect(cases.count > 40)
    for object in cases {
      let name = try #require(object["name"] as? String)
      let values = try #require(object["values"] as? [String])
      let shape = Shape(try #require(object["shape"] as? [Int]))
      let type = try #require(ElementType.allCases.first { $0.name == object["type"] as? String })
      let tensor =
        type.isInteger
        ? Tensor(values.map { Int($0)! }, shape: shape).converted(to: type)
        : Tensor(values.map { Double($0)! }, shape: shape).converted(to: type)
      let text = try #require(object["text"] as? String)
      #expect(tensor.description == "Tensor(\(text), shape: \(shape), \(type))", "\(name), \(type)")
    }
  }

  @Test func exactTexts() {
    #expect(Tensor([[1, 2], [3, 4]]).description == "Tensor([[1.0, 2.0],\n        [3.0, 4.0]], shape: [2, 2], float32)")
    #expect(Tensor([true, false]).description == "Tensor([ true, false], shape: [2], bool)")
    #expect(Tensor(2.5).description == "Tensor(2.5, shape: [], float32)")
    #expect(Tensor.zeros([0, 3]).description == "Tensor([], shape: [0, 3], float32)")
    #expect(Tensor([0.1, -3], .bfloat16).description == "Tensor([ 0.1, -3.0], shape: [2], bfloat16)")
    #expect(Tensor([0.1, 2048], .float16).description == "Tensor([1.000e-01, 2.048e+03], shape: [2], float16)")
    #expect(Tensor([[1, 2], [3, 4]], .uint8).T.description == "Tensor([[1, 3],\n        [2, 4]], shape: [2, 2], uint8)")
    #expect(
      Tensor.arange(1001).description == "Tensor([   0,    1,    2, ...,  998,  999, 1000], shape: [1001], int64)")
    #expect("\(Tensor([Double.greatestFiniteMagnitude, 1]))" == "Tensor([1.7977e+308, 1.0000e+000], shape: [2], float64)")
  }

  @Test func debuggersSeeValues() {
    let x = Tensor([[1, 2], [3, 4]])
    let children = Dictionary(uniqueKeysWithValues: Mirror(reflecting: x).children.map { ($0.label!, "\($0.value)") })
    #expect(children == ["shape": "[2, 2]", "elementType": "float32", "values": "[[1.0, 2.0],\n [3.0, 4.0]]"])
    #expect("\(x.playgroundDescription)" == x.description)
    #expect(x.debugDescription == x.description)
  }

  @Test func tracedTensorsHaveNoValues() {
    final class Symbol {}
    let traced = Tensor(TensorHandle(traced: TensorType([2, 3], .float32), symbol: Symbol(), nil))
    #expect(traced.description == "Tensor(traced, shape: [2, 3], float32)")
    #expect(Mirror(reflecting: traced).children.contains { $0.label == "values" && "\($0.value)" == "traced" })
  }
}
