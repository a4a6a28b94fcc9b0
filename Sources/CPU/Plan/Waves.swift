import ApusIR
import CApusKernels
import Synchronization

/// Steps that follow each other and do not depend on each other run side by side, one to a thread, if each is too small to be
/// shared among threads itself.
enum Waves {
  /// - Returns: the steps in order, cut into ranges whose members may run at the same time.
  static func partition(_ steps: [Plan.Step], donors: [Int?]) -> [Range<Int>] {
    var waves: [Range<Int>] = []
    var start = 0
    var (read, written): (Set<Plan.Place>, Set<Plan.Place>) = ([], [])
    func places(_ step: Plan.Step) -> (read: Set<Plan.Place>, written: Set<Plan.Place>) {
      var written = Set(step.out.map(\.place))
      // A variable's new value may be written over its old one.
      for case .result(let k) in written { if let i = donors[k] { written.insert(.input(i)) } }
      return (Set(step.inputs.map(\.place)), written)
    }
    for i in steps.indices {
      let (r, w) = places(steps[i])
      let joins =
        i > start && isSmall(steps[i]) && isSmall(steps[i - 1]) && w.isDisjoint(with: read) && w.isDisjoint(with: written)
        && r.isDisjoint(with: written)
      if !joins {
        if i > start { waves.append(start..<i) }
        start = i
        (read, written) = ([], [])
      }
      read.formUnion(r)
      written.formUnion(w)
    }
    if start < steps.count { waves.append(start..<steps.count) }
    // Waking another thread costs some microseconds: not for next to nothing.
    return waves.flatMap { wave in
      wave.reduce(0) { $0 + cost(steps[$1]) } > 20_000 ? [wave] : wave.map { $0..<($0 + 1) }
    }
  }

  /// About how many nanoseconds the step takes one thread.
  private static func cost(_ step: Plan.Step) -> Double { 300 + Double(step.work.bytes) / 15 + step.work.flops / 40 }

  private static func isSmall(_ step: Plan.Step) -> Bool { cost(step) < 60_000 && step.kernel.isPure }
}

/// What a wave's tasks need; kept by the context, so that a run makes none.
final class WaveRunner: @unchecked Sendable {
  private let run: (Int) throws(ExecutionError) -> Void
  private var start = 0
  private let failure = Mutex<(step: Int, error: ExecutionError)?>(nil)

  init(_ run: @escaping (Int) throws(ExecutionError) -> Void) { self.run = run }

  /// Runs all steps of the range at once. If several fail, the first one's error is thrown.
  func callAsFunction(_ range: Range<Int>) throws(ExecutionError) {
    start = range.lowerBound
    apus_parallel(
      Int64(range.count),
      { context, index in
        guard let context else { return }
        Unmanaged<WaveRunner>.fromOpaque(context).takeUnretainedValue().task(Int(index))
      }, Unmanaged.passUnretained(self).toOpaque())
    if let failed = failure.withLock({ $0.take() }) { throw failed.error }
  }

  private func task(_ index: Int) {
    let step = start + index
    do { try run(step) } catch {
      failure.withLock { known in
        if let before = known, before.step < step { return }
        known = (step, error)
      }
    }
  }
}
