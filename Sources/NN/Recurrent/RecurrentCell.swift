import ApusTensor

/// One step of a recurrent layer: what ``CellRNN`` walks over a sequence. A cell of your own says its states and its step:
///
/// ```swift
/// final class Leaky: Module, RecurrentCell {
///   let input = Linear(3, 8)
///   func initialStates(_ x: Tensor) -> [Tensor] { [Tensor.zeros([x.shape[0], 8])] }
///   func step(_ x: Tensor, _ states: [Tensor]) -> (output: Tensor, states: [Tensor]) {
///     let h = states[0] * 0.9 + tanh(input(x)) * 0.1
///     return (h, [h])
///   }
/// }
/// ```
public protocol RecurrentCell: Module {
  /// The states before the first step, each [batch, …].
  /// - Parameter x: one step's input [batch, …]; only its shape and type matter.
  func initialStates(_ x: Tensor) -> [Tensor]

  /// - Parameter x: [batch, …].
  /// - Returns: the output [batch, …] and the next states, of the shapes of `states`.
  func step(_ x: Tensor, _ states: [Tensor]) -> (output: Tensor, states: [Tensor])

  /// All steps; cells that know a faster way than one after the other have their own.
  func overSteps(_ x: Tensor, _ states: [Tensor], _ walk: RecurrentWalk) -> RecurrentWalk.Results
}

/// How ``RecurrentCell/overSteps(_:_:_:)`` goes over [steps, batch, …].
public struct RecurrentWalk {
  /// From the last step to the first; outputs stand where their inputs stood.
  public var reverse = false
  /// Bool [steps, batch]: where it is false a row keeps its states.
  public var mask: Tensor?
  /// What stands in the output there: zeros, or the last output of a step that was seen (zeros before the first).
  public var zeroOutputForMask = true
  /// A compiled program holds the steps one after the other, in the place of a loop. They may then write variables and draw random
  /// numbers.
  public var unroll = false

  public init(reverse: Bool = false, mask: Tensor? = nil, zeroOutputForMask: Bool = true, unroll: Bool = false) {
    (self.reverse, self.mask, self.zeroOutputForMask, self.unroll) = (reverse, mask, zeroOutputForMask, unroll)
  }

  /// Outputs [steps, batch, …], each row's last output, and the last states.
  public typealias Results = (outputs: Tensor, last: Tensor, states: [Tensor])
}

extension RecurrentCell {
  public func overSteps(_ x: Tensor, _ states: [Tensor], _ walk: RecurrentWalk) -> RecurrentWalk.Results {
    stepByStep(x, states, walk)
  }

  func stepByStep(_ x: Tensor, _ states: [Tensor], _ walk: RecurrentWalk) -> RecurrentWalk.Results {
    guard let mask = walk.mask else {
      let (after, outputs) = walked(states, [x], walk) { states, elements in
        let (y, next) = step(elements[0], states)
        return (next, [y])
      }
      let steps = x.shape[0]
      return (outputs[0], outputs[0][walk.reverse ? 0 : steps - 1], after)
    }
    // The output so far is a state, too: a row's last one may be of a step before.
    let first = zerosLike(withoutGradient { step(x[0], states).output })
    let (after, outputs) = walked([first] + states, [x, mask], walk) { states, elements in
      let (y, next) = step(elements[0], Array(states.dropFirst()))
      func seen(_ a: Tensor, _ b: Tensor) -> Tensor {
        `where`(elements[1].reshaped([a.shape[0]] + Array(repeating: 1, count: a.rank - 1)).broadcast(to: a.shape), a, b)
      }
      let last = seen(y, states[0])
      return ([last] + zip(next, states.dropFirst()).map(seen), [walk.zeroOutputForMask ? seen(y, zerosLike(y)) : last])
    }
    return (outputs[0], after[0], Array(after.dropFirst()))
  }

  private func walked(
    _ states: [Tensor], _ sequences: [Tensor], _ walk: RecurrentWalk,
    _ round: ([Tensor], [Tensor]) -> ([Tensor], [Tensor])
  ) -> (states: [Tensor], outputs: [Tensor]) {
    if !walk.unroll {
      let (after, outputs) = scan(states, over: sequences, reverse: walk.reverse, round)
      return (after, outputs)
    }
    let elements = sequences.map { $0.unstacked() }
    var (states, outputs) = (states, [[Tensor]]())
    for n in 0..<elements[0].count {
      let place = walk.reverse ? elements[0].count - 1 - n : n
      let (next, output) = round(states, elements.map { $0[place] })
      states = next
      outputs.append(output)
    }
    if walk.reverse { outputs.reverse() }
    return (states, outputs[0].indices.map { i in stack(outputs.map { $0[i] }) })
  }
}

/// Cells one on another, each over the output of the one before; Keras's StackedRNNCells. States: those of the first cell, then
/// those of the second …
public final class StackedRNNCells: Module, RecurrentCell {
  public let cells: [any RecurrentCell]

  public init(_ cells: [any RecurrentCell]) {
    guard !cells.isEmpty else { stop("StackedRNNCells: no cells") }
    self.cells = cells
  }

  public func initialStates(_ x: Tensor) -> [Tensor] {
    var (states, x) = ([Tensor](), x)
    for (i, cell) in cells.enumerated() {
      let own = cell.initialStates(x)
      states += own
      if i + 1 < cells.count { x = withoutGradient { cell.step(x, own).output } }
    }
    return states
  }

  public func step(_ x: Tensor, _ states: [Tensor]) -> (output: Tensor, states: [Tensor]) {
    let counts = stateCounts(x, states)
    var (x, next, start) = (x, [Tensor](), 0)
    for (cell, count) in zip(cells, counts) {
      let (y, after) = cell.step(x, Array(states[start..<(start + count)]))
      x = y
      next += after
      start += count
    }
    return (x, next)
  }

  /// How many states each cell has; asked once.
  private var known: [Int]?
  private func stateCounts(_ x: Tensor, _ states: [Tensor]) -> [Int] {
    if let known { return known }
    var (counts, x, start) = ([Int](), x, 0)
    withoutGradient {
      for cell in cells {
        let count = cell.initialStates(x).count
        counts.append(count)
        if counts.count < cells.count { x = cell.step(x, Array(states[start..<(start + count)])).output }
        start += count
      }
    }
    guard start == states.count else { stop("\(label): \(states.count) states, but the cells have \(start)") }
    known = counts
    return counts
  }

  override var members: [Member] { cells.enumerated().map { Member("cells.\($0)", $1) } }
}
