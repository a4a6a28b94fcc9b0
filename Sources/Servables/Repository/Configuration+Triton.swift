import ApusFormats
import ApusTensor

extension ModelConfiguration {
  /// What Triton's `config.pbtxt` in a model's folder says.
  /// - Parameters:
  ///   - name: of the model's folder, which the file may repeat.
  ///   - path: the model's folder.
  /// - Throws: ``ServingError``, with file, line and column.
  init(tritonFile file: String, name: String, path: String) throws(ServingError) {
    try self.init(triton: ProtoText(parsing: textFile(file, limit: 1 << 20), file: file), name: name, path: path)
  }

  init(triton text: ProtoText, name: String, path: String) throws(ServingError) {
    self.init(name: name, path: path)
    try text.allow([
      "name", "platform", "backend", "runtime", "version_policy", "max_batch_size", "input", "output", "batch_input",
      "batch_output", "optimization", "dynamic_batching", "sequence_batching", "ensemble_scheduling", "instance_group",
      "default_model_filename", "cc_model_filenames", "metric_tags", "parameters", "model_warmup", "model_operations",
      "model_transaction_policy", "model_repository_agents", "response_cache", "model_metrics",
    ])
    for unsupported in ["sequence_batching", "ensemble_scheduling", "batch_input", "batch_output", "model_operations"] {
      if let field = text.all(unsupported).first { throw field.place.error("'\(unsupported)' is not supported", .unimplemented) }
    }
    if let other = try text.one("name"), try other.string() != name, try !other.string().isEmpty {
      throw other.place.error("the name is '\(FormatError.excerpt(try other.string()))', but the model's folder is '\(name)'")
    }
    for key in ["platform", "backend"] {
      if let given = try text.string(key), !given.isEmpty { platform = given }
    }
    if let policy = try text.message("version_policy") { versionPolicy = try .init(policy) }
    let largest = try text.integer("max_batch_size", in: 0...(1 << 30)) ?? 0
    expectsBatches = largest > 0
    for field in text.all("input") {
      let input = try field.message()
      try input.allow([
        "name", "data_type", "format", "dims", "reshape", "is_shape_tensor", "allow_ragged_batch", "optional",
        "is_non_linear_format_io",
      ])
      expectedInputs.append(try ExpectedTensor(input))
    }
    for field in text.all("output") {
      let output = try field.message()
      try output.allow(["name", "data_type", "dims", "reshape", "label_filename", "is_shape_tensor", "is_non_linear_format_io"])
      expectedOutputs.append(try ExpectedTensor(output))
      if let labels = try output.one("label_filename"), classLabels == nil {
        let file = try labels.string()
        guard !file.isEmpty else { continue }
        guard !file.hasPrefix("/"), !file.split(separator: "/").contains("..") else {
          throw labels.place.error("the labels '\(FormatError.excerpt(file))' are not in the model's folder")
        }
        classLabels = try ClassLabels.read(path + "/" + file)
      }
    }
    if let field = try text.one("dynamic_batching") {
      guard largest > 0 else { throw field.place.error("dynamic_batching needs a max_batch_size of at least 1") }
      try scheduling.take(dynamicBatching: field.message(), largest: largest)
    }
    let groups = text.all("instance_group")
    if !groups.isEmpty {
      var count = 0
      for field in groups {
        let group = try field.message()
        try group.allow([
          "name", "kind", "count", "rate_limiter", "gpus", "secondary_devices", "profile", "passive", "host_policy",
        ])
        if let kind = try group.one("kind"), try kind.word(of: ["KIND_AUTO", "KIND_CPU", "KIND_GPU", "KIND_MODEL"]) == "KIND_GPU"
        {
          throw kind.place.error("there is no GPU here; KIND_CPU or KIND_AUTO is meant")
        }
        count += try group.integer("count", in: 0...4096) ?? 1
      }
      scheduling.instances = max(1, min(count, 4096))
    }
    if let cache = try text.message("response_cache") {
      try cache.allow(["enable"])
      if try cache.bool("enable") ?? false { scheduling.cacheBytes = 1 << 26 }
    }
    if !text.all("model_warmup").isEmpty { warmUp = .generated }
  }
}

extension ModelConfiguration.ExpectedTensor {
  fileprivate init(_ text: ProtoText) throws(ServingError) {
    guard let name = try text.string("name") else { throw text.place.error("a tensor has no name") }
    self.init(name: name)
    if let type = try text.one("data_type") {
      let types: [(String, ElementType?)] = [
        ("TYPE_BOOL", .bool), ("TYPE_UINT8", .uint8), ("TYPE_INT8", .int8), ("TYPE_INT16", .int16), ("TYPE_INT32", .int32),
        ("TYPE_INT64", .int64), ("TYPE_FP16", .float16), ("TYPE_BF16", .bfloat16), ("TYPE_FP32", .float32),
        ("TYPE_FP64", .float64),
        // Texts are bytes.
        ("TYPE_STRING", .uint8),
      ]
      let word = try type.word(of: types.map(\.0) + ["TYPE_UINT16", "TYPE_UINT32", "TYPE_UINT64"])
      guard let known = types.first(where: { $0.0 == word }) else {
        throw type.place.error("no model has tensors of the type \(word)")
      }
      elementType = known.1
    }
    let dims = text.all("dims")
    if !dims.isEmpty {
      var sizes: [Int] = []
      for field in dims { sizes.append(try field.integer(in: -1...(1 << 40))) }
      // With a `reshape`, the model's own dimensions are others.
      if try text.one("reshape") == nil { dimensions = sizes }
    }
  }
}

extension SchedulingOptions {
  fileprivate mutating func take(dynamicBatching text: ProtoText, largest: Int) throws(ServingError) {
    try text.allow([
      "preferred_batch_size", "max_queue_delay_microseconds", "preserve_ordering", "priority_levels", "default_priority_level",
      "default_queue_policy", "priority_queue_policy",
    ])
    var batching = Batching()
    batching.maxBatchSize = largest
    for field in text.all("preferred_batch_size") {
      let size = try field.integer(in: 1...(1 << 30))
      guard size <= largest else {
        throw field.place.error("a preferred batch of \(size) is more than max_batch_size, \(largest)")
      }
      batching.preferredBatchSizes.append(size)
    }
    batching.maxQueueDelay = .microseconds(try text.integer("max_queue_delay_microseconds", in: 0...(1 << 40)) ?? 0)
    batching.preservesOrder = try text.bool("preserve_ordering") ?? false
    self.batching = batching
    priorityLevels = try text.integer("priority_levels", in: 0...1024) ?? 0
    if let level = try text.one("default_priority_level") {
      defaultPriorityLevel = try level.integer(in: 0...1024)
      guard defaultPriorityLevel <= priorityLevels else {
        throw level.place.error("the default priority level is \(defaultPriorityLevel), but there are \(priorityLevels)")
      }
    } else if priorityLevels > 0 {
      throw text.place.error("priority_levels needs a default_priority_level")
    }
    if let policy = try text.message("default_queue_policy") { queuePolicy = try QueuePolicy(policy) }
    for field in text.all("priority_queue_policy") {
      let pair = try field.message()
      try pair.allow(["key", "value"])
      guard let level = try pair.integer("key", in: 0...1024), level >= 1, level <= priorityLevels else {
        throw field.place.error("a policy's key must be one of the \(priorityLevels) priority levels")
      }
      if let value = try pair.message("value") { priorityPolicies[level] = try QueuePolicy(value) }
    }
  }
}

extension SchedulingOptions.QueuePolicy {
  fileprivate init(_ text: ProtoText) throws(ServingError) {
    self.init()
    try text.allow(["timeout_action", "default_timeout_microseconds", "allow_timeout_override", "max_queue_size"])
    if let action = try text.one("timeout_action") {
      timeoutAction = try action.word(of: ["REJECT", "DELAY"]) == "DELAY" ? .delay : .reject
    }
    if let timeout = try text.integer("default_timeout_microseconds", in: 0...(1 << 50)), timeout > 0 {
      defaultTimeout = .microseconds(timeout)
    }
    allowTimeoutOverride = try text.bool("allow_timeout_override") ?? false
    maxQueueSize = try text.integer("max_queue_size", in: 0...(1 << 40)) ?? 0
  }
}
