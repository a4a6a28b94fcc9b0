import ApusCPU
import Foundation
import Testing

@testable import ApusTensor

@Suite struct OperationTests {
  @Test(arguments: Family.allCases) func everyFamilyHasSamplesOfItsOwn(_ family: Family) {
    #expect(!family.samples.isEmpty)
    for sample in family.samples { #expect(Family(sample.operation) == family) }
  }

  /// Each operation through which gradients flow has a sample whose gradient is compared, or none at all.
  @Test(arguments: Family.allCases) func everyGradientIsTested(_ family: Family) {
    var tested: Set<String> = []
    var all: Set<String> = []
    for sample in family.samples where sample.operation.isDifferentiable && sample.types.contains(.float64) {
      all.insert(sample.operation.name)
      if !sample.gradients.isEmpty { tested.insert(sample.operation.name) }
    }
    let without = all.subtracting(tested)
    let expected: Set<String> =
      switch family {
      case .bitcast: ["bitcast"]
      case .whileLoopGradient: ["whileLoopGradient"]
      case .customCall: ["tests.mirrored"]
      default: []
      }
    #expect(without == expected)
  }

  @Test(arguments: Family.allCases) func shapeRuleEqualsResult(_ family: Family) throws {
    for sample in family.samples {
      for type in sample.types {
        let inferred = try sample.operation.infer(sample.inputs.map { $0.type(type) })
        let results = try CPU.execute(sample.operation, sample.tensors(type).map(\.array), inferred)
        #expect(results.map(\.type) == inferred, "\(sample) in \(type)")
        #expect(sample.operation.resultCount == inferred.count, "\(sample)")
      }
    }
  }

  @Test(arguments: Family.allCases) func otherElementTypesAreRefused(_ family: Family) {
    for sample in family.samples where sample.refusesOthers && sample.hasData {
      for type in ElementType.allCases where !sample.types.contains(type) {
        #expect(throws: OperationError.self, "\(sample) in \(type)") {
          try sample.operation.infer(sample.inputs.map { $0.type(type) })
        }
      }
      // One data operand of another type than the others.
      let data = sample.inputs.indices.filter { sample.inputs[$0].role == .data }
      for i in data.dropFirst() where sample.types.count > 1 {
        var types = sample.inputs.map { $0.type(sample.types[0]) }
        types[i].elementType = sample.types[1]
        #expect(throws: OperationError.self, "\(sample) with operand \(i) \(sample.types[1])") {
          try sample.operation.infer(types)
        }
      }
      #expect(throws: OperationError.self, "\(sample) without operands") { try sample.operation.infer([]) }
      let tooMany = (sample.inputs + Array(repeating: sample.inputs[0], count: 3)).map { $0.type(sample.mainType) }
      if family != .concatenate {
        #expect(throws: OperationError.self, "\(sample) with too many operands") { try sample.operation.infer(tooMany) }
      }
    }
  }

  @Test(arguments: Family.allCases) func valuesInEachTypeAreThoseOfPyTorch(_ family: Family) throws {
    for sample in family.samples where sample.hasReference {
      for type in sample.types {
        let key = sample.text(TypeGroup(type))
        let expected = try #require(Reference.fixture[key[...]], "run Fixtures/make_operations.py: no line for \(key)")
        let results = try run(sample.operation, sample.tensors(type))
        #expect(results.count == expected.count, "\(key)")
        for (i, (result, reference)) in zip(results, expected).enumerated() {
          let problem = reference.mismatch(result, ulps: sample.ulps, magnitude: sample.magnitude)
          #expect(problem == nil, "\(key) in \(type), result \(i)")
        }
      }
    }
  }

  /// `APUS_WRITE_SAMPLES=file` writes the samples' lines, which make_operations.py completes with values.
  @Test(.enabled(if: ProcessInfo.processInfo.environment["APUS_WRITE_SAMPLES"] != nil)) func writeSamples() throws {
    var lines: [String] = []
    for sample in Family.allCases.flatMap(\.samples) where sample.hasReference {
      for group in TypeGroup.allCases where sample.types.contains(where: { TypeGroup($0) == group }) {
        lines.append(sample.text(group))
      }
    }
    var seen: Set<String> = []
    let text = lines.filter { seen.insert($0).inserted }.joined(separator: "\n") + "\n"
    try text.write(toFile: ProcessInfo.processInfo.environment["APUS_WRITE_SAMPLES"]!, atomically: true, encoding: .utf8)
  }
}

extension Sample {
  /// Random numbers have tests of their own, and so has control flow; bits depend on the element type, not on its group.
  var hasReference: Bool {
    switch operation {
    case .random(let p): p.kind == .bits
    case .bitcast, .constant, .call, .conditional, .whileLoop, .whileLoopGradient, .scanLoop, .customCall: false
    default: true
    }
  }
}
