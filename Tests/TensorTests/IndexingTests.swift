import ApusTensor
import Testing

@Suite struct IndexingTests {
  static let x = Tensor.arange(60).converted(to: .float32).reshaped(3, 4, 5)
  static let i = Tensor([0, 2, 1], .int64)
  static let j = Tensor([[1, 3, -1], [0, 0, 2]], .int32)
  static let mask = x % 7 .== 0

  typealias Get = (name: String, body: @Sendable (Tensor) -> Tensor)
  static let gets: [Get] = [
    ("x[0]", { $0[0] }), ("x[-1]", { $0[-1] }), ("x[1,2]", { $0[1, 2] }), ("x[1,2,3]", { $0[1, 2, 3] }),
    ("x[:,1]", { $0[0..., 1] }),
    ("x[1:3]", { $0[1..<3] }), ("x[1:3]", { $0[1...2] }), ("x[:,1:]", { $0[0..., 1...] }),
    ("x[:2,..,:-1]", { $0[..<2, .ellipsis, ..<(-1)] }), ("x[:2,..,:-1]", { $0[...1, ..., ...(-2)] }),
    ("x[-3:-1]", { $0[-3 ..< -1] }),
    ("x[...]", { $0[...] }), ("x[...,0]", { $0[..., 0] }), ("x[0,...,1]", { $0[0, ..., 1] }),
    ("x[::2,::3]", { $0[(0...).by(2), stride(from: 0, to: 4, by: 3)] }), ("x[::-1]", { $0[(0...).by(-1)] }),
    ("x[::-1]", { $0[stride(from: 2, through: 0, by: -1)] }), ("x[::-1]", { $0[.slice(nil, nil, -1)] }),
    ("x[:,3:0:-2]", { $0[0..., .slice(3, 0, -2)] }), ("x[1:-1,1:-1]", { $0[.slice(1, -1), .slice(1, -1)] }),
    ("x[None]", { $0[.newAxis] }),
    ("x[:,None,0]", { $0[0..., .newAxis, 0] }), ("x[...,None]", { $0[..., .newAxis] }), ("x[mask]", { $0[IndexingTests.mask] }),
    ("x[rows]", { $0[[true, false, true]] }), ("x[:,mask2]", { $0[0..., IndexingTests.x[0] % 2 .== 0] }),
    ("x[rows,1]", { $0[[true, false, true], 1] }), ("x[i]", { $0[i] }), ("x[i]", { $0[[0, 2, 1]] }), ("x[:,i]", { $0[0..., i] }),
    ("x[...,j]", { $0[..., j] }), ("x[...,j]", { $0[..., [[1, 3, -1], [0, 0, 2]]] }), ("x[i,j]", { $0[i, j] }),
    ("x[i,:,j]", { $0[i, 0..., j] }), ("x[:,i,j]", { $0[0..., i, j] }), ("x[0,:,j]", { $0[0, 0..., j] }),
    ("x[:,0,j]", { $0[0..., 0, j] }),
    ("x[i,None,i]", { $0[i, .newAxis, i] }), ("x[:,i,...,i]", { $0[0..., i, .ellipsis, i] }),
    ("x[1:,i,1:3]", { $0[1..., i, 1..<3] }),
    ("x[::-1,i]", { $0[(0...).by(-1), i] }), ("x[rows,:,[0,4]]", { $0[[true, false, true], 0..., [0, 4]] }),
    ("x[[],1]", { $0[[Int](), 1] }),
    ("x[1:1]", { $0[1..<1] }), ("x[i,i,i]", { $0[i, i, i] }),
  ]

  @Test func partsAsNumPyGivesThem() throws {
    let all = try IndexingFixtures.all()
    for (name, body) in Self.gets {
      let expected = try IndexingFixtures.Case(all["get \(name)"])
      expectEqual(body(Self.x), expected, name)
      // The same from memory in another order, and for every type that holds 0...59.
      let strided = Self.x.T.contiguous().T
      expectEqual(body(strided), expected, "strided \(name)")
      for type in ElementType.allCases where type != .bool {
        let part = body(Self.x.converted(to: type))
        #expect(part.elementType == type)
        expectEqual(part, expected, "\(type) \(name)")
      }
    }
  }

  @Test func partsOfBoolTensors() {
    #expect(Self.mask[0, 0].elements(as: Bool.self) == [true, false, false, false, false])
    #expect(Self.mask[[2, 0], 0, 0].elements(as: Bool.self) == [false, true])
  }

  @Test func gradientsOfParts() {
    let x = sin(Self.x.converted(to: .float64))
    for (name, body) in Self.gets { expectGradient(x, name, body) }
  }

  typealias Set = (name: String, value: Tensor, body: @Sendable (inout Tensor, Tensor) -> Void)
  static let v45 = -Tensor.arange(20).converted(to: .float32).reshaped(4, 5)
  static func down(_ count: Int) -> Tensor { -Tensor.arange(count).converted(to: .float32) }
  static let sets: [Set] = [
    ("x[1]=v", v45, { $0[1] = $1 }), ("x[0]=7", Tensor(7), { $0[0] = $1 }), ("x[...]=7", Tensor(7), { $0[...] = $1 }),
    ("x[:,1:3]=row", -down(5), { $0[0..., 1..<3] = $1 }), ("x[::2,::-1]=v", v45, { $0[(0...).by(2), (0...).by(-1)] = $1 }),
    ("x[mask]=-1", Tensor(-1), { $0[mask] = $1 }), ("x[mask]=v", down(9), { $0[mask] = $1 }),
    ("x[i]=column", Tensor([[-1], [-2], [-3], [-4]]), { $0[i] = $1 }),
    ("x[i,:,j]=v", down(24).reshaped(2, 3, 4), { $0[i, 0..., j] = $1 }),
    ("x[:,[0,0],1]=v", Tensor([-1, -2]), { $0[0..., [0, 0], 1] = $1 }),
    ("x[rows,1]=v", v45[..<2], { $0[[true, false, true], 1] = $1 }),
    ("x[...,0]=v", v45[..<3, ..<4], { $0[..., 0] = $1 }),
    ("x[0,None,1:2]=v", Tensor.ones([1, 1, 1, 5]), { $0[0, .newAxis, 1..<2] = $1 }),
  ]

  @Test func assignmentAsNumPyDoesIt() throws {
    let all = try IndexingFixtures.all()
    for (name, value, body) in Self.sets {
      let expected = try IndexingFixtures.Case(all["set \(name)"])
      var x = Self.x
      body(&x, value)
      expectEqual(x, expected, name)
      #expect(Self.x.floats == (0..<60).map(Float.init), "\(name) changed a tensor somebody else sees")
      for type in [ElementType.float16, .bfloat16, .float64, .int8, .int16, .int32, .int64] {
        var strided = Self.x.converted(to: type).T.contiguous().T
        body(&strided, value)
        expectEqual(strided, expected, "\(type) \(name)")
      }
    }
  }

  @Test func gradientsOfAssignment() {
    let x = sin(Self.x.converted(to: .float64))
    // Repeated places: the last value wins, but the gradient goes to all of them as in PyTorch.
    for (name, value, body) in Self.sets where name != "x[:,[0,0],1]=v" {
      let value = cos(value.converted(to: .float64))
      expectGradient(x, name) { x in
        var y = square(x)
        body(&y, value)
        return y
      }
      expectGradient(value, "value of \(name)") { value in
        var y = x
        body(&y, square(value))
        return y
      }
    }
  }

  @Test func assignmentInPlaceAndCopyOnWrite() {
    var x = Tensor(Array(repeating: Float(0), count: 12), shape: [4, 3])  // zeros() is one element, repeated
    let address = x.withUnsafeBytes { $0.baseAddress }
    x[1] = Tensor([1, 2, 3])
    x[2, 0] .= 5
    x[[3, 0], 1] .= 4
    #expect(x.withUnsafeBytes { $0.baseAddress } == address)
    #expect(x.floats == [0, 4, 0, 1, 2, 3, 5, 0, 0, 0, 4, 0])
    let row = x[1]
    let copy = x
    x[1] *= 2
    #expect(row.floats == [1, 2, 3])
    #expect(copy[1].floats == [1, 2, 3])
    #expect(x[1].floats == [2, 4, 6])
    // The value is a view of what it is assigned to.
    x[..<3] = x[1...]
    #expect(x.floats == [2, 4, 6, 5, 0, 0, 0, 4, 0, 0, 4, 0])
    // One element of memory repeated must not be written through.
    var repeated = Tensor(3.0).broadcast(to: [2, 2])
    repeated[0, 0] .= 1
    #expect(repeated.floats == [1, 3, 3, 3])
  }

  @Test func numbersAndTensorsSetParts() {
    var x = Self.x
    x[x .> 50] .= -1
    x[0, 1...] .= Tensor([1, 2, 3, 4, 5])
    x[2, ..., 0] .= 0.5
    #expect(x[0].floats == [0, 1, 2, 3, 4, 1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1, 2, 3, 4, 5])
    #expect(x[2].floats == [0.5, 41, 42, 43, 44, 0.5, 46, 47, 48, 49, 0.5, -1, -1, -1, -1, 0.5, -1, -1, -1, -1])
    x .= 2
    #expect(x.shape == [3, 4, 5] && x.floats.allSatisfy { $0 == 2 })
  }

  @Test func emptyAndScalar() {
    let scalar = Tensor(3.0)
    #expect(scalar[...].shape == [])
    #expect(scalar[.newAxis].shape == [1])
    #expect(scalar[scalar .> 0].floats == [3])
    #expect(scalar[scalar .< 0].shape == [0])
    let empty = Tensor.zeros([0, 3])
    #expect(empty[0..., 1].shape == [0])
    #expect(empty[(0...).by(-1)].shape == [0, 3])
    #expect(empty[empty .> 0].shape == [0])
    #expect(empty[[Int]()].shape == [0, 3])
    var target = empty
    target[0...] .= 1
    #expect(target.shape == [0, 3])
    var number = scalar
    number[...] .= 4.0
    #expect(number.item() == 4)
  }

  @Test func secondDerivativesThroughParts() {
    let x = sin(Self.x[0].converted(to: .float64))
    expectGradient(x, "gradient of x[i]³") { x in
      gradient(at: x) { x in (x[[0, 2, 0], 1...] * square(x[[0, 2, 0], 1...])).sum() }
    }
  }
}

@Suite struct IndexingMessageTests {
  func message(_ result: ExitTest.Result?) -> String { String(decoding: result?.standardErrorContent ?? [], as: UTF8.self) }

  @Test func namesAxisIndexAndShape() async {
    let integer = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      _ = Tensor.zeros([3, 4])[0..., 4]
    }
    #expect(message(integer).contains("Apus: subscript: index 4 is out of range for axis 1 of shape [3, 4]"))
    let fast = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { _ = Tensor.zeros([3, 4])[-4] }
    #expect(message(fast).contains("Apus: subscript: index -4 is out of range for axis 0 of shape [3, 4]"))
    let range = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      _ = Tensor.zeros([3, 4])[1..<5]
    }
    #expect(message(range).contains("Apus: subscript: range 1..<5 is out of range for axis 0 of shape [3, 4]"))
    let list = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      _ = Tensor.zeros([3, 4])[0..., [1, -5]]
    }
    #expect(message(list).contains("Apus: subscript: index -5 is out of range for axis 1 of shape [3, 4]"))
  }

  @Test func namesWhatDoesNotFit() async {
    let many = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { _ = Tensor.zeros([3])[0, 0] }
    #expect(message(many).contains("Apus: subscript: 2 indices for a tensor of shape [3], which has 1 axes"))
    let mask = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      _ = Tensor.zeros([3])[[true, false]]
    }
    #expect(message(mask).contains("Apus: subscript: a mask of shape [2] does not fit axes 0..<1 of shape [3]"))
    let value = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      var x = Tensor.zeros([3, 4])
      x[1] = Tensor([1, 2, 3])
    }
    #expect(
      message(value).contains(
        "Apus: subscript: a value of shape [3] does not broadcast to shape [4] of the part it is assigned to"))
    let float = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      _ = Tensor.zeros([3])[Tensor([1.5])]
    }
    #expect(message(float).contains("Apus: subscript: indices must be integers or bool, got float32[1]"))
    let apart = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      _ = Tensor.zeros([3, 4])[[0, 1], [0, 1, 2]]
    }
    #expect(message(apart).contains("Apus: subscript: index tensors of shapes [2] and [3] do not broadcast to one"))
  }
}
