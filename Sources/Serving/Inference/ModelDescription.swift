import ApusIR
import ApusExport
import ApusFormats
import ApusServables
import ApusServingProtocols
import ApusTensor

/// What clients are told of a model: the names and numbers that both transports put into their own form.
struct ModelDescription {
  struct Port {
    var name: String
    var elementType: ElementType
    /// -1 where the size is open.
    var shape: [Int]
  }

  var name: String
  var version: Int
  /// The versions that take traffic.
  var versions: [Int]
  var platform: String
  var inputs: [Port]
  var outputs: [Port]
  /// Most examples in a batch; 0: requests are not joined, and shapes have no dimension of their own for examples.
  var maxBatchSize: Int
  var configuration: ModelConfiguration

  /// - Parameter isVersioned: whether the request named a version; then it is the only one that is told of.
  init(_ model: ServedModel, in repository: ModelRepository, isVersioned: Bool) {
    (name, version, configuration) = (model.name, model.version, model.configuration)
    platform = model.servable.platform
    versions = isVersioned ? [model.version] : repository.served(model.name).map(\.version).sorted()
    let signatures = model.servable.signatures
    let signature = signatures[model.servable.defaultSignature ?? signatures.keys.min() ?? ""]
    inputs = (signature?.inputs ?? []).map {
      Port(name: $0.name, elementType: $0.spec.elementType, shape: $0.spec.dimensions.map(\.inferenceSize))
    }
    outputs = (signature?.outputs ?? []).map {
      Port(name: $0.name, elementType: $0.elementType, shape: $0.dimensions.map { $0?.inferenceSize ?? -1 })
    }
    let leading = Set(
      (signature?.inputs ?? []).map(\.spec.dimensions.first) + (signature?.outputs ?? []).map { $0.dimensions.first ?? nil })
    var isBatched = false
    if leading.count == 1, case .open? = leading.first { isBatched = true }
    maxBatchSize = isBatched ? model.configuration.scheduling.batching?.maxBatchSize ?? 0 : 0
  }

  /// The dimensions that a configuration names: without that of examples where requests are joined.
  func dims(_ port: Port) -> [Int] { maxBatchSize > 0 ? Array(port.shape.dropFirst()) : port.shape }
}

// MARK: Metadata

extension ModelDescription {
  var metadata: JSONValue {
    func port(_ port: Port) -> JSONValue {
      .object([
        "name": .string(port.name), "datatype": .string(port.elementType.inferenceName),
        "shape": .array(port.shape.map { .integer($0) }),
      ])
    }
    return .object([
      "name": .string(name), "versions": .array(versions.map { .string("\($0)") }), "platform": .string(platform),
      "inputs": .array(inputs.map(port)), "outputs": .array(outputs.map(port)),
    ])
  }

  var metadataMessage: Inference_ModelMetadataResponse {
    func port(_ port: Port) -> Inference_ModelMetadataResponse.TensorMetadata {
      var message = Inference_ModelMetadataResponse.TensorMetadata()
      (message.name, message.datatype) = (port.name, port.elementType.inferenceName)
      message.shape = port.shape.map(Int64.init)
      return message
    }
    var message = Inference_ModelMetadataResponse()
    (message.name, message.platform, message.versions) = (name, platform, versions.map(String.init))
    (message.inputs, message.outputs) = (inputs.map(port), outputs.map(port))
    return message
  }
}

// MARK: Configuration

extension ModelDescription {
  /// Triton's `ModelConfig` as JSON.
  var configurationJSON: JSONValue {
    func integers(_ values: [Int]) -> JSONValue { .array(values.map { .integer($0) }) }
    func type(_ port: Port) -> JSONValue { .string("TYPE_" + (port.elementType.inferenceName)) }
    func policy(_ policy: SchedulingOptions.QueuePolicy) -> JSONValue {
      .object([
        "timeout_action": .string(policy.timeoutAction == .delay ? "DELAY" : "REJECT"),
        "default_timeout_microseconds": .integer((policy.defaultTimeout?.nanoseconds ?? 0) / 1000),
        "allow_timeout_override": .bool(policy.allowTimeoutOverride), "max_queue_size": .integer(policy.maxQueueSize),
      ])
    }
    let versionPolicy: JSONValue =
      switch configuration.versionPolicy {
      case .latest(let count): .object(["latest": .object(["num_versions": .integer(count)])])
      case .all: .object(["all": .object([:])])
      case .specific(let versions): .object(["specific": .object(["versions": integers(versions)])])
      }
    let scheduling = configuration.scheduling
    var result: JSONObject = [
      "name": .string(name), "platform": .string(platform), "backend": .string(platform), "version_policy": versionPolicy,
      "max_batch_size": .integer(maxBatchSize),
      "input": .array(
        inputs.map {
          .object([
            "name": .string($0.name), "data_type": type($0), "format": .string("FORMAT_NONE"), "dims": integers(dims($0)),
            "is_shape_tensor": .bool(false), "allow_ragged_batch": .bool(false), "optional": .bool(false),
          ])
        }),
      "output": .array(
        outputs.map {
          .object([
            "name": .string($0.name), "data_type": type($0), "dims": integers(dims($0)), "label_filename": .string(""),
            "is_shape_tensor": .bool(false),
          ])
        }),
      "instance_group": .array([
        .object(["name": .string(name), "kind": .string("KIND_CPU"), "count": .integer(scheduling.instances), "gpus": .array([])])
      ]),
    ]
    if let batching = scheduling.batching, maxBatchSize > 0 {
      var object: JSONObject = [
        "preferred_batch_size": integers(batching.preferredBatchSizes),
        "max_queue_delay_microseconds": .integer(batching.maxQueueDelay.nanoseconds / 1000),
        "preserve_ordering": .bool(batching.preservesOrder), "priority_levels": .integer(scheduling.priorityLevels),
        "default_priority_level": .integer(scheduling.defaultPriorityLevel),
        "default_queue_policy": policy(scheduling.queuePolicy),
      ]
      var priorities: JSONObject = [:]
      for (level, own) in scheduling.priorityPolicies.sorted(by: { $0.key < $1.key }) { priorities["\(level)"] = policy(own) }
      object["priority_queue_policy"] = .object(priorities)
      result["dynamic_batching"] = .object(object)
    }
    result["response_cache"] = .object(["enable": .bool(scheduling.cacheBytes > 0)])
    return .object(result)
  }

  /// The same as Triton's message.
  var configurationMessage: Inference_ModelConfig {
    func policy(_ policy: SchedulingOptions.QueuePolicy) -> Inference_ModelQueuePolicy {
      var message = Inference_ModelQueuePolicy()
      message.timeoutAction = policy.timeoutAction == .delay ? .delay : .reject
      message.defaultTimeoutMicroseconds = UInt64(clamping: (policy.defaultTimeout?.nanoseconds ?? 0) / 1000)
      message.allowTimeoutOverride = policy.allowTimeoutOverride
      message.maxQueueSize = UInt32(clamping: policy.maxQueueSize)
      return message
    }
    var message = Inference_ModelConfig()
    (message.name, message.platform, message.backend) = (name, platform, platform)
    switch configuration.versionPolicy {
    case .latest(let count): message.versionPolicy.latest.numVersions = UInt32(clamping: count)
    case .all: message.versionPolicy.all = .init()
    case .specific(let versions): message.versionPolicy.specific.versions = versions.map(Int64.init)
    }
    message.maxBatchSize = Int32(clamping: maxBatchSize)
    message.input = inputs.map {
      var port = Inference_ModelInput()
      (port.name, port.dataType, port.dims) = ($0.name, $0.elementType.configurationType, dims($0).map(Int64.init))
      return port
    }
    message.output = outputs.map {
      var port = Inference_ModelOutput()
      (port.name, port.dataType, port.dims) = ($0.name, $0.elementType.configurationType, dims($0).map(Int64.init))
      return port
    }
    let scheduling = configuration.scheduling
    var group = Inference_ModelInstanceGroup()
    (group.name, group.kind, group.count) = (name, .cpu, Int32(clamping: scheduling.instances))
    message.instanceGroup = [group]
    if let batching = scheduling.batching, maxBatchSize > 0 {
      var dynamic = Inference_ModelDynamicBatching()
      dynamic.preferredBatchSize = batching.preferredBatchSizes.map { Int32(clamping: $0) }
      dynamic.maxQueueDelayMicroseconds = UInt64(clamping: batching.maxQueueDelay.nanoseconds / 1000)
      dynamic.preserveOrdering = batching.preservesOrder
      dynamic.priorityLevels = UInt64(clamping: scheduling.priorityLevels)
      dynamic.defaultPriorityLevel = UInt64(clamping: scheduling.defaultPriorityLevel)
      dynamic.defaultQueuePolicy = policy(scheduling.queuePolicy)
      for (level, own) in scheduling.priorityPolicies { dynamic.priorityQueuePolicy[UInt64(clamping: level)] = policy(own) }
      message.dynamicBatching = dynamic
    }
    message.responseCache.enable = scheduling.cacheBytes > 0
    return message
  }
}

// MARK: Statistics

/// Triton's statistics of a version of a model.
struct StatisticsDescription {
  let model: ServedModel
  let snapshot: ModelStatistics.Snapshot

  init(_ model: ServedModel) { (self.model, snapshot) = (model, model.statistics.snapshot) }

  private var failures: ModelStatistics.Total {
    snapshot.failures.values.reduce(into: .init()) { sum, part in
      sum.count += part.count
      sum.nanoseconds += part.nanoseconds
    }
  }

  /// Names and numbers in the order of the message.
  private var durations: [(String, ModelStatistics.Total)] {
    [
      ("success", snapshot.success), ("fail", failures), ("queue", snapshot.queue), ("compute_input", snapshot.computeInput),
      ("compute_infer", snapshot.compute), ("compute_output", snapshot.computeOutput), ("cache_hit", snapshot.cacheHit),
      ("cache_miss", snapshot.cacheMiss),
    ]
  }

  var json: JSONValue {
    func duration(_ total: ModelStatistics.Total) -> JSONValue {
      .object(["count": .integer(total.count), "ns": .integer(total.nanoseconds)])
    }
    var stats: JSONObject = [:]
    for (name, total) in durations { stats[name] = duration(total) }
    let batches: [JSONValue] = snapshot.batches.sorted { $0.key < $1.key }.map { size, total in
      .object([
        "batch_size": .integer(size), "compute_input": duration(.init()), "compute_infer": duration(total),
        "compute_output": duration(.init()),
      ])
    }
    return .object([
      "name": .string(model.name), "version": .string("\(model.version)"), "last_inference": .integer(snapshot.lastInference),
      "inference_count": .integer(snapshot.inferenceCount), "execution_count": .integer(snapshot.executionCount),
      "inference_stats": .object(stats), "response_stats": .object([:]), "batch_stats": .array(batches),
      "memory_usage": .array([
        .object(["type": .string("CPU"), "id": .integer(0), "byte_size": .integer(model.servable.byteCount)])
      ]),
    ])
  }

  var message: Inference_ModelStatistics {
    func duration(_ total: ModelStatistics.Total) -> Inference_StatisticDuration {
      var message = Inference_StatisticDuration()
      (message.count, message.ns) = (UInt64(clamping: total.count), UInt64(clamping: total.nanoseconds))
      return message
    }
    var message = Inference_ModelStatistics()
    (message.name, message.version) = (model.name, "\(model.version)")
    message.lastInference = UInt64(clamping: snapshot.lastInference)
    message.inferenceCount = UInt64(clamping: snapshot.inferenceCount)
    message.executionCount = UInt64(clamping: snapshot.executionCount)
    var stats = Inference_InferStatistics()
    stats.success = duration(snapshot.success)
    stats.fail = duration(failures)
    stats.queue = duration(snapshot.queue)
    stats.computeInput = duration(snapshot.computeInput)
    stats.computeInfer = duration(snapshot.compute)
    stats.computeOutput = duration(snapshot.computeOutput)
    stats.cacheHit = duration(snapshot.cacheHit)
    stats.cacheMiss = duration(snapshot.cacheMiss)
    message.inferenceStats = stats
    message.batchStats = snapshot.batches.sorted { $0.key < $1.key }.map { size, total in
      var batch = Inference_InferBatchStatistics()
      batch.batchSize = UInt64(clamping: size)
      (batch.computeInput, batch.computeInfer, batch.computeOutput) = (duration(.init()), duration(total), duration(.init()))
      return batch
    }
    var memory = Inference_MemoryUsage()
    (memory.type, memory.byteSize) = ("CPU", UInt64(clamping: model.servable.byteCount))
    message.memoryUsage = [memory]
    return message
  }
}

extension ServingContext {
  /// The statistics of one model's version, of all its versions, or of all models.
  /// - Parameter version: empty for all.
  func inferenceStatistics(_ name: String?, version: String) throws(ServingError) -> [StatisticsDescription] {
    guard let name, !name.isEmpty else { return repository.served().map(StatisticsDescription.init) }
    let model = try repository.inferenceModel(name, version: version)
    guard version.isEmpty else { return [StatisticsDescription(model)] }
    return repository.served(name).map(StatisticsDescription.init)
  }

  /// What the server says of itself.
  static let serverName = "apus"
  static let serverVersion = apusVersion
  /// Of Triton's extensions, those that are here.
  static let serverExtensions = [
    "classification", "model_repository", "schedule_policy", "model_configuration", "binary_tensor_data", "statistics",
  ]
}

// MARK: Repository

/// A version of a model, or a model without any, in the index of a repository.
struct IndexEntry {
  var name: String
  var version: Int?
  /// READY, UNAVAILABLE, LOADING or UNLOADING, as Triton says it.
  var state: String?
  var reason: String

  static func all(_ repository: ModelRepository, isReady: Bool) -> [IndexEntry] {
    repository.names.flatMap { name -> [IndexEntry] in
      let versions = (try? repository.status(name)) ?? []
      guard !versions.isEmpty || isReady else { return [IndexEntry(name: name, version: nil, state: nil, reason: "")] }
      return versions.sorted { $0.version < $1.version }.compactMap { status in
        let (state, reason) =
          switch status.state {
          case .available: ("READY", "")
          case .start, .loading: ("LOADING", "")
          case .unloading: ("UNLOADING", "")
          case .end, .unknown: ("UNAVAILABLE", status.error?.message ?? (status.state == .end ? "unloaded" : ""))
          }
        return isReady && state != "READY" ? nil : IndexEntry(name: name, version: status.version, state: state, reason: reason)
      }
    }
  }

  var json: JSONValue {
    var object: JSONObject = ["name": .string(name)]
    if let version { object["version"] = .string("\(version)") }
    if let state { object["state"] = .string(state) }
    if !reason.isEmpty { object["reason"] = .string(reason) }
    return .object(object)
  }
}
