import Testing

@testable import ApusCPU
@testable import ApusIR

@Suite struct SimplifyTests {
  @Test func identitiesGo() throws {
    let type = float([2, 3])
    let before = graph([type]) { b, x in
      var y = x[0]
      y = b.apply(.convert(.float32), [y])[0]
      y = b.apply(.reshape([2, 3]), [y])[0]
      y = b.apply(.reshape([2, 3]), [y.reshape([6])])[0]
      y = y.transpose([1, 0]).transpose([1, 0])
      y = b.apply(.transpose([0, 1]), [y])[0]
      y = b.apply(.broadcast([2, 3]), [y])[0]
      y = b.apply(.slice(start: [0, 0], size: [2, 3], step: [1, 1]), [y])[0]
      y = b.apply(.reverse([]), [y])[0]
      y = b.apply(.reduce(.sum, [], keepDims: false), [y])[0]
      y = b.concatenate([y], axis: 0)
      y = y.unary(.neg).unary(.neg)
      y = y * 1
      y = b.apply(.binary(.mul), [y.like(1.0), y])[0]
      y = y / 1
      y = y - 0
      y = b.select(y.compare(.less, y.like(2.0)), y, y)
      return [y.stopGradient()]
    }
    let after = withoutDeadCode(withoutIdentities(before))
    try after.verify()
    #expect(after.nodes.isEmpty && after.outputs == [0])
    try expectSameBits(after, before)
  }

  /// What looks like nothing but changes some bit stays.
  @Test func whatChangesBitsStays() throws {
    let before = graph([float([3])]) { b, x in
      [x[0] + 0.0, x[0] - x[0].like(-0.0), x[0] * 0.0, x[0] / x[0], x[0].convert(.float16).convert(.float32)]
    }
    let after = simplified(before)
    try after.verify()
    #expect(["add", "sub", "mul", "div", "convert"].allSatisfy { after.count($0) > 0 })
    let inputs = [array([-0.0, .nan, 0.1], [3], .float32)]
    #expect(try CPU.run(after, inputs).map(bits) == CPU.run(before, inputs).map(bits))
  }

  @Test func chainsBecomeOne() throws {
    let before = graph([float([2, 3, 4])]) { b, x in
      [
        x[0].reshape([6, 4]).reshape([24]).reshape([4, 6]), x[0].transpose([1, 2, 0]).transpose([2, 0, 1]),
        x[0].transpose([2, 0, 1]).transpose([0, 2, 1]),
      ]
    }
    let after = simplified(before)
    try after.verify()
    #expect(after.names == ["reshape", "transpose"] && after.outputs[1] == 0)
    try expectSameBits(after, before)
  }

  @Test func duplicatesAreOne() throws {
    let before = graph([float([4]), TensorType([2], .int64)]) { b, x in
      let random = Operation.random(RandomParameters(.uniform(low: 0, high: 1), [4], .float32))
      let (a, c) = (x[0].unary(.exp), x[0].unary(.exp))
      let (p, q) = (b.apply(random, [x[1]])[0], b.apply(random, [x[1]])[0])
      return [a + c, p - q, (a * 2.0) * (c * 2.0)]
    }
    let after = withoutDuplicates(before)
    try after.verify()
    #expect(after.count("exp") == 1 && after.count("random") == 1 && after.count("mul") == 2)
    try expectSameBits(after, before)
  }

  @Test func customCallsHappenAsOftenAsTheyStand() throws {
    let call = Operation.customCall(CustomCall("somewhere", resultTypes: [float([])]))
    var body = Graph()
    let argument = body.addInput(float([]))
    body.setOutputs(Array(try body.append(call, [argument])))
    for operation in [call, .call(Function("body", body))] {
      var before = Graph()
      let x = before.addInput(float([]))
      let results = [try before.append(operation, [x]).lowerBound, try before.append(operation, [x]).lowerBound]
      before.setOutputs(results)
      let after = withoutDuplicates(before)
      try after.verify()
      #expect(after.nodes.count == 2 && operation.hasCustomCall)
      #expect(after.stableValues([0]) == [true, false, false])
    }
  }

  @Test func deadCodeGoesAndInputsStay() throws {
    let before = graph([float([3]), float([2, 2])]) { b, x in
      _ = x[1].unary(.exp)
      let sorted = b.apply(.sort(axis: 0, descending: false), [x[0]])
      _ = sorted[1] + sorted[1]
      return [sorted[0], sorted[0]]
    }
    let after = withoutDeadCode(before)
    try after.verify()
    #expect(after.inputCount == 2 && after.names == ["sort"] && after.outputs[0] == after.outputs[1])
    try expectSameBits(after, before)
  }
}
