import Testing

@testable import ApusIR

@Suite struct ShapeTests {
  @Test func dimensionsComeAndGo() {
    var shape: Shape = [2, 3]
    shape.append(4)
    shape.insert(1, at: 0)
    #expect(shape == [1, 2, 3, 4] && shape.count == 4 && shape.elementCount == 24)
    #expect(shape.remove(at: 2) == 3 && shape == [1, 2, 4])
    #expect(shape == Shape([1, 2, 4]) && shape.hashValue == Shape([1, 2, 4]).hashValue, "removed dimensions leave no trace")
    shape[0] = 5
    #expect(Array(shape) == [5, 2, 4] && "\(shape)" == "[5, 2, 4]")
    #expect(Shape().elementCount == 1 && "\(Shape())" == "[]")
    #expect(Shape(repeating: 2, count: 3) == [2, 2, 2])
  }

  @Test func stridesAreRowMajor() {
    #expect((Shape([2, 3, 4]).rowMajorStrides) == [12, 4, 1])
    #expect(Shape([5]).rowMajorStrides == [1] && Shape().rowMajorStrides == [])
    #expect(Shape([2, 0, 3]).rowMajorStrides == [3, 3, 1])
  }

  @Test func countsAreChecked() {
    #expect(Shape([3, 4]).checkedElementCount == 12)
    #expect(Shape([1 << 40, 1 << 40]).checkedElementCount == nil)
    #expect(Shape([1 << 40, 1 << 40, 0]).checkedElementCount == 0, "nothing is not too much")
    #expect(Shape([2, -1]).checkedElementCount == nil && Shape([0, -1]).checkedElementCount == nil)
  }

  @Test func broadcastingIsNumPys() {
    #expect(Shape.broadcast([3], [4, 3]) == [4, 3])
    #expect(Shape.broadcast([4, 1], [3]) == [4, 3])
    #expect(Shape.broadcast([], [2, 2]) == [2, 2])
    #expect(Shape.broadcast([0, 1], [1, 5]) == [0, 5])
    #expect(Shape.broadcast([1], [0]) == [0])
    #expect(Shape.broadcast([2], [3]) == nil && Shape.broadcast([0], [2]) == nil)
  }
}
