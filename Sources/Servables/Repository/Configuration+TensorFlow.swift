import ApusFormats

extension ModelConfiguration {
  /// What TensorFlow Serving's `--model_config_file` says.
  /// - Parameter folder: what paths that do not begin at the root are relative to.
  static func tensorFlow(_ text: ProtoText, folder: String) throws(ServingError) -> [ModelConfiguration] {
    try text.allow(["model_config_list", "custom_model_config"])
    if let custom = try text.one("custom_model_config") {
      throw custom.place.error("custom model configurations are not supported; a model_config_list is", .unimplemented)
    }
    guard let list = try text.message("model_config_list") else { return [] }
    try list.allow(["config"])
    var models: [ModelConfiguration] = []
    for field in list.all("config") { models.append(try ModelConfiguration(tensorFlow: field.message(), folder: folder)) }
    return models
  }

  private init(tensorFlow text: ProtoText, folder: String) throws(ServingError) {
    try text.allow([
      "name", "base_path", "model_type", "model_platform", "model_version_policy", "version_labels", "logging_config",
    ])
    guard let name = try text.string("name") else { throw text.place.error("a model has no name") }
    guard let path = try text.string("base_path") else { throw text.place.error("the model '\(name)' has no base_path") }
    self.init(name: name, path: joined(folder, path))
    if let platform = try text.string("model_platform") { self.platform = Self.platform(platform) }
    if let policy = try text.message("model_version_policy") { versionPolicy = try .init(policy) }
    for field in text.all("version_labels") {
      let pair = try field.message()
      try pair.allow(["key", "value"])
      guard let label = try pair.string("key"), let version = try pair.integer("value", in: 0...Int.max) else {
        throw field.place.error("a label needs a key, its name, and a value, its version")
      }
      guard labels[label] == nil else {
        throw field.place.error("the label '\(FormatError.excerpt(label))' is given a second time")
      }
      labels[label] = version
    }
  }

  /// Settings written for TensorFlow Serving must name its own platform: it stands for any.
  public static func platform(_ name: String) -> String? { name.isEmpty || name == "tensorflow" ? nil : name }
}

extension ModelConfiguration.VersionPolicy {
  /// Both servers write it alike.
  init(_ text: ProtoText) throws(ServingError) {
    try text.allow(["latest", "all", "specific"])
    guard text.fields.count <= 1 else { throw text.fields[1].place.error("a version policy is one of latest, all and specific") }
    guard let field = text.fields.first else {
      self = .latest(1)
      return
    }
    let details = try field.message()
    switch field.name {
    case "latest":
      try details.allow(["num_versions"])
      self = .latest(try details.integer("num_versions", in: 0...Int(UInt32.max)).flatMap { $0 == 0 ? nil : $0 } ?? 1)
    case "specific":
      try details.allow(["versions"])
      var versions: [Int] = []
      for version in details.all("versions") { versions.append(try version.integer(in: 0...Int.max)) }
      guard !versions.isEmpty else { throw field.place.error("specific versions are wanted, but none is named") }
      self = .specific(versions)
    default:
      try details.allow([])
      self = .all
    }
  }
}

extension SchedulingOptions {
  /// What TensorFlow Serving's `--batching_parameters_file`, or `batching_params.pbtxt` in a version's folder, says.
  /// - Throws: ``ServingError``, with file, line and column.
  public init(batchingParameters path: String) throws(ServingError) {
    try self.init(batchingParameters: ProtoText(parsing: textFile(path, limit: 1 << 20), file: path))
  }

  init(batchingParameters text: ProtoText) throws(ServingError) {
    self.init()
    try text.allow([
      "max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads", "thread_pool_name",
      "allowed_batch_sizes", "pad_variable_length_inputs", "enable_large_batch_splitting", "max_execution_batch_size",
    ])
    var batching = Batching()
    let largest = try text.wrapped("max_batch_size", in: 1...(1 << 30)) ?? 1000
    batching.splitsLargeRequests = try text.wrappedBool("enable_large_batch_splitting") ?? false
    batching.padsVariableLengths =
      switch try text.one("pad_variable_length_inputs")?.value {
      case nil: false
      case .message: try text.wrappedBool("pad_variable_length_inputs") ?? false
      default: try text.bool("pad_variable_length_inputs") ?? false
      }
    batching.maxBatchSize = largest
    if let executed = try text.one("max_execution_batch_size") {
      let size = try text.wrapped("max_execution_batch_size", in: 1...(1 << 30)) ?? largest
      guard batching.splitsLargeRequests else {
        throw executed.place.error("max_execution_batch_size needs enable_large_batch_splitting { value: true }")
      }
      guard size <= largest else {
        throw executed.place.error("max_execution_batch_size is \(size), more than max_batch_size, which is \(largest)")
      }
      batching.maxBatchSize = size
    }
    batching.maxQueueDelay = .microseconds(try text.wrapped("batch_timeout_micros", in: 0...(1 << 40)) ?? 0)
    for field in text.all("allowed_batch_sizes") {
      let size = try field.integer(in: 1...(1 << 30))
      guard size > batching.allowedBatchSizes.last ?? 0 else {
        throw field.place.error("allowed_batch_sizes must rise, but \(size) follows \(batching.allowedBatchSizes.last ?? 0)")
      }
      batching.allowedBatchSizes.append(size)
    }
    if let last = batching.allowedBatchSizes.last, last != batching.maxBatchSize, let field = text.all("allowed_batch_sizes").last
    {
      throw field.place.error(
        "the last of allowed_batch_sizes is \(last), but must be the most that a batch may have, \(batching.maxBatchSize)")
    }
    if let threads = try text.wrapped("num_batch_threads", in: 1...4096) { instances = threads }
    if let batches = try text.wrapped("max_enqueued_batches", in: 1...(1 << 30)) {
      let (requests, isMore) = batches.multipliedReportingOverflow(by: batching.maxBatchSize)
      maxQueueSize = isMore ? 1 << 40 : min(requests, 1 << 40)
    }
    self.batching = batching
  }
}

/// A path that may be relative to a folder.
func joined(_ folder: String, _ path: String) -> String {
  path.hasPrefix("/") || folder.isEmpty || folder == "." ? path : folder + "/" + path
}
