import ApusFormats
import ApusNN
import ApusTensor

extension Trainer {
  // MARK: All that training is

  /// Everything that a run in another process needs to go on to the same bits.
  final func checkpoint() -> Checkpoint {
    var checkpoint = Checkpoint(model: model.state, training: [:], content: [:])
    checkpoint.add(optimizer.state.mapValues(\.value), under: "optimizer")
    let rates = optimizer.learningRates
    checkpoint.add(["learning rates": Tensor(rates, shape: [rates.count])], under: "options")
    checkpoint.add(RandomState(model).tensors, under: "random")
    for (prefix, variables) in gatheredVariables {
      checkpoint.add(Dictionary(variables.map { ($0.name, $0.variable.value) }) { first, _ in first }, under: prefix)
    }
    if position.accumulated > 0, let waiting = programs.waiting {
      checkpoint.add(Dictionary(uniqueKeysWithValues: waiting.enumerated().map { ("\($0)", $1.value) }), under: "waiting")
    }
    var names: [JSONValue] = []
    var texts: JSONObject = [:]
    for (key, callback) in keyedCallbacks {
      let state = callback.state
      checkpoint.add(state, under: "callbacks/" + key)
      names.append(.string(key))
      if !state.texts.isEmpty {
        var object: JSONObject = [:]
        for (name, text) in state.texts.sorted(by: { $0.key < $1.key }) { object[name] = .string(text) }
        texts[key] = .object(object)
      }
    }
    checkpoint.content["position"] = .object([
      "epoch": .integer(position.epoch), "batch": .integer(position.batch), "step": .integer(position.step),
      "optimizerStep": .integer(position.optimizerStep), "pass": .integer(position.pass),
      "batchInPass": .integer(position.batchInPass), "accumulated": .integer(position.accumulated),
      "epochHasBegun": .bool(position.epochHasBegun), "stopTraining": .bool(stopTraining),
    ])
    checkpoint.content["data"] = fitRun.map { .string($0.source.signature) } ?? .null
    checkpoint.content["frozen"] = .array(model.namedParameters.filter { !$0.parameter.isTrainable }.map { .string($0.name) })
    checkpoint.content["callbacks"] = .array(names)
    checkpoint.content["texts"] = .object(texts)
    return checkpoint
  }

  /// Takes all of it over.
  /// - Throws: ``TrainingError/differentCheckpoint(path:reason:)``; model and optimizer are then as before.
  final func restore(_ checkpoint: Checkpoint, path: String) throws {
    func different(_ reason: String) -> TrainingError { .differentCheckpoint(path: path, reason: reason) }
    if let run = fitRun, let data = checkpoint.content["data"]?.string, data != run.source.signature {
      throw different("it was made with the data \(data); now it is \(run.source.signature)")
    }
    guard let place = checkpoint.content["position"]?.object else { throw different("it has no position") }
    func number(_ name: String) throws -> Int {
      guard let value = place[name]?.integer, value >= 0 else { throw different("its position has no \(name)") }
      return value
    }
    var found = TrainingPosition()
    found.epoch = try number("epoch")
    found.batch = try number("batch")
    found.step = try number("step")
    found.optimizerStep = try number("optimizerStep")
    found.pass = try number("pass")
    found.batchInPass = try number("batchInPass")
    found.accumulated = try number("accumulated")
    found.epochHasBegun = place["epochHasBegun"]?.bool ?? false
    let rates = checkpoint.tensors(under: "options")["learning rates"]?.elements(as: Double.self) ?? []
    guard rates.count == optimizer.learningRates.count else {
      throw different("it has \(rates.count) learning rates, the optimizer \(optimizer.learningRates.count) parameter groups")
    }
    let before = model.state
    do {
      try model.load(state: checkpoint.model)
      do { try optimizer.load(state: checkpoint.tensors(under: "optimizer")) } catch {
        try model.load(state: before)
        throw error
      }
    } catch let error as LoadError { throw different(error.description) }
    // A schedule counts in the optimizer's state.
    if optimizer.schedule == nil { optimizer.learningRates = rates }
    RandomState(model).restore(checkpoint.tensors(under: "random"))
    for (i, metric) in metrics.enumerated() {
      metric.build(like: checkpoint.tensors(under: "gathered/\(2 + outputTrackers.count + i)"))
    }
    for (prefix, variables) in gatheredVariables {
      let values = checkpoint.tensors(under: prefix)
      for (name, variable) in variables { if let value = values[name], value.type == variable.type { variable.value = value } }
    }
    let waiting = checkpoint.tensors(under: "waiting")
    programs = TrainerPrograms()
    if !waiting.isEmpty {
      programs.waiting = optimizer.parameters.enumerated().map { i, parameter in
        Variable(waiting["\(i)"] ?? Tensor.zeros(parameter.shape, parameter.elementType).contiguous())
      }
    }
    let frozen = Set((checkpoint.content["frozen"]?.array ?? []).compactMap(\.string))
    for (name, parameter) in model.namedParameters { parameter.isTrainable = !frozen.contains(name) }
    let known = Set((checkpoint.content["callbacks"]?.array ?? []).compactMap(\.string))
    position = found
    for (key, callback) in keyedCallbacks where known.contains(key) {
      callback.state = checkpoint.callbackState(
        under: "callbacks/" + key, texts: checkpoint.content["texts"]?.object?[key]?.object)
    }
    stopTraining = place["stopTraining"]?.bool ?? false
  }

  /// What metrics and trackers have gathered.
  private var gatheredVariables: [(prefix: String, variables: [(name: String, variable: Variable)])] {
    let trackers: [Module] = [lossTracker, lossScale] + outputTrackers
    return (trackers + metrics).enumerated().map { i, module in
      ("gathered/\(i)", module.namedVariables.map { ($0.name, $0.variable) })
    }
  }

  /// The callbacks by name, and by number where several have one name.
  private var keyedCallbacks: [(key: String, callback: Callback)] {
    var counts: [String: Int] = [:]
    return callbacks.flattened.map { callback in
      let count = counts[callback.name, default: 0]
      counts[callback.name] = count + 1
      return ("\(callback.name)-\(count)", callback)
    }
  }

  // MARK: Files

  /// Writes everything that training is to a folder, atomically and with checksums: parameters and variables, the optimizer's state,
  /// random state, what metrics have gathered, and within `fit` the place in the data and the callbacks' states.
  /// - Throws: ``TrainingError/unwritable(path:reason:)``.
  public final func saveCheckpoint(to path: String) throws { try checkpoint().write(to: path) }

  /// Takes over a checkpoint's state.
  /// - Throws: ``TrainingError/damagedCheckpoint(path:reason:)``, ``TrainingError/differentCheckpoint(path:reason:)``.
  public final func loadCheckpoint(from path: String) throws { try restore(Checkpoint(path: path), path: path) }

  // MARK: Within fit

  /// Goes on from the last sound checkpoint, if there is one.
  final func resume(_ run: FitRun) throws -> Bool {
    let folders = [run.plan.resume].compactMap { $0 } + callbacks.flattened.compactMap { ($0 as? BackupAndRestore)?.folder }
    for path in folders {
      // One checkpoint, named by itself.
      if isRegularFile(path + "/" + Checkpoint.marker) {
        try restore(Checkpoint(path: path), path: path)
        run.source.pass = position.pass
        return true
      }
      let folder = CheckpointFolder(path: path)
      guard let (name, checkpoint) = try folder.latest(warn) else { continue }
      try restore(checkpoint, path: name)
      run.source.pass = position.pass
      return true
    }
    return false
  }

  /// Writes the checkpoints that callbacks have asked for since the last batch. All callbacks have seen the batch then.
  final func writeRequestedCheckpoints() throws {
    guard let run = fitRun else { return }
    for writer in run.writers where writer.isDue {
      try checkLoss()
      try writer.write()
    }
  }
}
