import ApusTensor

/// How a variable of a module is computed from others that are trained in its place (PyTorch's `nn.utils.parametrize`).
///
/// ```swift
/// final class Symmetric: Parametrization {
///   override func callAsFunction(_ originals: [Tensor]) -> Tensor {
///     originals[0].upperTriangle() + originals[0].upperTriangle(diagonal: 1).T
///   }
/// }
/// let layer = Linear(3, 3)
/// layer.registerParametrization("weight", Symmetric())
/// ```
/// Its own parameters and variables are part of the module.
open class Parametrization: Module {
  /// The variable's value, computed whenever it is read.
  /// - Parameter originals: what is trained: as many tensors as ``rightInverse(_:)`` gives, one if it gives none.
  open func callAsFunction(_ originals: [Tensor]) -> Tensor { stop("\(type(of: self)) does not override callAsFunction(_:)") }

  /// Originals that give a value like this one; nil, the default, where nobody knows: the value at registration is then the
  /// original itself, and none can be assigned later.
  open func rightInverse(_ value: Tensor) -> [Tensor]? { nil }
}

/// The parametrizations of one variable, one after another, and the originals the first begins with.
///
/// Names in files are PyTorch's: `parametrizations.weight.original`, or `original0`, `original1` … where there are several, and
/// those of the parametrizations' own variables: `parametrizations.weight.0._u`.
final class ParametrizationList: Module {
  /// The module's; it holds this list.
  unowned let variable: Variable
  private(set) var originals: [Variable]
  private(set) var steps: [Parametrization]

  init(_ variable: Variable, _ first: Parametrization) {
    self.variable = variable
    let value = variable.value.detached()
    let starts = first.rightInverse(value) ?? [value]
    originals = starts.map { start in
      let original = variable is Parameter ? Parameter(start.detached().contiguous()) : Variable(start.detached().contiguous())
      original.isTrainable = variable.isTrainable
      return original
    }
    steps = [first]
    super.init()
  }

  func append(_ step: Parametrization) { steps.append(step) }

  func value() -> Tensor {
    var value = steps[0](originals.map(\.value))
    for step in steps.dropFirst() { value = step([value]) }
    guard value.type == variable.type else {
      stop("\(label): the parametrization made \(value.type) of a variable that is \(variable.type)")
    }
    return value
  }

  func assign(_ value: Tensor) {
    withoutGradient {
      var value = value.detached()
      for step in steps.dropFirst().reversed() { value = inverse(step, value)[0] }
      let values = inverse(steps[0], value)
      for (original, value) in zip(originals, values) { original.value = value }
    }
  }

  private func inverse(_ step: Parametrization, _ value: Tensor) -> [Tensor] {
    if let originals = step.rightInverse(value) { return originals }
    stop("\(label): a value is assigned, but \(type(of: step)) has no right inverse")
  }

  override var members: [Member] {
    let names = originals.count == 1 ? ["original"] : originals.indices.map { "original\($0)" }
    return zip(names, originals).map { Member($0, $1) } + steps.enumerated().map { Member(String($0.offset), $0.element) }
  }
}

extension Module {
  /// Has a variable of this module, such as `weight`, computed by a parametrization; or what is computed already by one more
  /// after the others.
  ///
  /// From now on ``parameters`` holds what it is computed from, so that an optimizer is made afterwards. (PyTorch's
  /// `register_parametrization`.)
  /// - Returns: the module itself.
  @discardableResult
  public final func registerParametrization(_ name: String, _ parametrization: Parametrization) -> Self {
    if let list = attachments?.parametrizations.first(where: { $0.name == name })?.list {
      list.append(parametrization)
      _ = list.value()
      return self
    }
    let variable = ownVariable(name, "parametrize")
    let list = untraced { withoutGradient { ParametrizationList(variable, parametrization) } }
    attached.parametrizations.append((name, list))
    list.train(isTraining)
    variable.computation = Variable.Computation(value: { list.value() }, assign: { list.assign($0) })
    _ = untraced { withoutGradient { evaluating { variable.value } } }
    return self
  }

  /// Makes a parametrized variable an ordinary one with the value it has now. (PyTorch's `remove_parametrizations`.)
  public final func removeParametrizations(_ name: String) {
    guard let attachments, let i = attachments.parametrizations.firstIndex(where: { $0.name == name }) else {
      stop("\(label): \"\(name)\" has no parametrization")
    }
    let list = attachments.parametrizations.remove(at: i).list
    list.variable.computation = nil
    list.variable.isTrainable = list.variable is Parameter && list.originals.contains { $0.isTrainable }
  }

  /// Whether a variable of this module, such as `weight`, is computed by a parametrization.
  public final func isParametrized(_ name: String) -> Bool { attachments?.parametrizations.contains { $0.name == name } ?? false }

  /// A variable that this module holds directly.
  final func ownVariable(_ name: String, _ purpose: String) -> Variable {
    for member in members {
      if case .variable(let variable) = member.value, member.name == name { return variable }
    }
    let names = members.compactMap { if case .variable = $0.value { $0.name } else { nil } }
    let reason =
      awaitsInput
      ? "it has no parameters before its first input; call it, or build(input:)" : "it has \(names.joined(separator: ", "))"
    stop("\(label): there is no variable \"\(name)\" to \(purpose); \(reason)")
  }
}
