import Apus
import ApusServables
import Foundation
import Testing

@Suite struct ConfigurationTests {
  // MARK: TensorFlow Serving

  /// The example of its documentation, and what else its settings have.
  @Test func tensorFlowServingsModelConfigFile() throws {
    let text = """
      # Two models
      model_config_list {
        config {
          name: 'my_first_model'
          base_path: '/tmp/my_first_model/'
          model_platform: 'tensorflow'
        }
        config: {
          name: "my_second" "_model", base_path: "models/second"; model_platform: "apus"
          model_version_policy {
            specific {
              versions: 42
              versions: [43, 0x2c]
            }
          }
          version_labels {
            key: 'stable'
            value: 43
          }
          version_labels < key: "canary" value: 44 >
        }
        config { name: "all" base_path: "/m/all" model_version_policy: { all: {} } }
        config { name: "two" base_path: "/m/two" model_version_policy { latest { num_versions: 2 } } }
      }
      """
    let models = try RepositoryConfiguration(text: text, file: "/etc/serving/models.config").models
    #expect(models.map(\.name) == ["my_first_model", "my_second_model", "all", "two"])
    #expect(models.map(\.path) == ["/tmp/my_first_model/", "/etc/serving/models/second", "/m/all", "/m/two"])
    #expect(models.map(\.platform) == [nil, "apus", nil, nil])
    #expect(models.map(\.versionPolicy) == [.latest(1), .specific([42, 43, 44]), .all, .latest(2)])
    #expect(models[1].labels == ["stable": 43, "canary": 44])
    #expect(try RepositoryConfiguration(text: "", file: "empty.config").models.isEmpty)
  }

  @Test(arguments: [
    (
      "model_config_list {\n  config {\n    name: 'a'\n    base_pth: '/a'\n  }\n}",
      "x.config:4:5: there is no field 'base_pth' here; did you mean 'base_path'?"
    ),
    ("model_config_list {\n  config { name: 'a' }\n}", "x.config:2:10: the model 'a' has no base_path"),
    ("model_config_list { config { name: 'a' base_path: '/a' }", "x.config:1:57: the text ends before '}'"),
    ("model_config_list { config { name: 'a\n' } }", "x.config:1:36: a text is not closed in its line"),
    ("model_config_list: 3", "x.config:1:1: 'model_config_list' must be a message in braces"),
    ("model_config_list { config { name: 3 base_path: '/a' } }", "x.config:1:30: 'name' must be a text in quotes"),
    ("model_config_list { config { name: 'a' name: 'b' base_path: '/a' } }", "x.config:1:40: 'name' is given a second time"),
    (
      "model_config_list { config { name: 'a' base_path: '/a' model_version_policy { latest { num_versions: -1 } } } }",
      "x.config:1:88: 'num_versions' must be from 0 to"
    ),
    (
      "model_config_list { config { name: 'a' base_path: '/a' model_version_policy { latest {} all {} } } }",
      "x.config:1:89: a version policy is one of latest, all and specific"
    ),
    (
      "model_config_list { config { name: 'a' base_path: '/a' model_version_policy { specific {} } } }",
      "x.config:1:79: specific versions are wanted, but none is named"
    ),
    (
      "model_config_list { config { name: 'a' base_path: '/a' version_labels { key: 's' value: 99999999999999999999 } } }",
      "x.config:1:82: 'value' must be a whole number of 64 bits"
    ),
    ("model_config_list { config { name: 'a/../b' base_path: '/a' } }", "'a/../b' cannot be the name of a model"),
    ("model_config_list { config { name: '..' base_path: '/a' } }", "'..' cannot be the name of a model"),
    (
      "model_config_list { config { name: 'a' base_path: '/a' } config { name: 'a' base_path: '/b' } }",
      "two models are called 'a'"
    ),
    ("custom_model_config { }", "x.config:1:1: custom model configurations are not supported"),
    ("model_config_list { [type.googleapis.com/x] {} }", "x.config:1:21: extensions and Any are not read here"),
    ("model_config_list { config { name: 'a\\q' } }", "x.config:1:40: '\\' cannot be followed by 'q' in a text"),
    ("\u{1}", "x.config:1:1: expected the name of a field, got the byte 0x1"),
    ("model_config_list", "x.config:1:18: the text ends before the value of 'model_config_list'"),
    (
      "model_config_list { config [ { name: 'a' base_path: '/a' } ",
      "x.config:1:60: expected ',' or ']' in the list of 'config', got the end"
    ),
  ])
  func badText(_ text: String, _ message: String) {
    let error = #expect(throws: ServingError.self) { try RepositoryConfiguration(text: text, file: "x.config") }
    #expect(error?.message.contains(message) == true, "\(error?.message ?? "")")
  }

  @Test func nestingIsBounded() {
    for text in [
      String(repeating: "a{", count: 100_000), String(repeating: "a:[", count: 100_000),
      String(repeating: "a:1 ", count: 200_000),
    ] {
      #expect(throws: ServingError.self) { try RepositoryConfiguration(text: text, file: "deep.config") }
    }
  }

  @Test func everyPrefixOfATextIsReadOrRefused() throws {
    let text =
      "model_config_list { config { name: \"m\\u00e9\\x41\\101\" base_path: '/a' version_labels { key: 'x', value: 0x1f } # no\n } }"
    let whole = try RepositoryConfiguration(text: text, file: "a").models
    #expect(whole.first?.name == "méAA" && whole.first?.labels == ["x": 31])
    for count in 1..<text.count - 1 {
      #expect(throws: ServingError.self) { try RepositoryConfiguration(text: String(text.prefix(count)), file: "a") }
    }
  }

  @Test func tensorFlowServingsBatchingParameters() async throws {
    try await withFolder { folder in
      func options(_ text: String) throws -> SchedulingOptions {
        let path = folder + "/batching.pbtxt"
        try text.write(toFile: path, atomically: true, encoding: .utf8)
        return try SchedulingOptions(batchingParameters: path)
      }
      let parsed = try options(
        """
        max_batch_size { value: 128 }
        batch_timeout_micros { value: 2500 }
        max_enqueued_batches { value: 10 }
        num_batch_threads { value: 8 }
        thread_pool_name { value: "pool" }
        allowed_batch_sizes: 8
        allowed_batch_sizes: 64
        enable_large_batch_splitting { value: true }
        max_execution_batch_size { value: 64 }
        pad_variable_length_inputs: true
        """)
      let batching = try #require(parsed.batching)
      #expect(batching.maxBatchSize == 64 && batching.allowedBatchSizes == [8, 64])
      #expect(batching.maxQueueDelay == .microseconds(2500) && batching.splitsLargeRequests && batching.padsVariableLengths)
      #expect(parsed.instances == 8 && parsed.maxQueueSize == 640)
      #expect(try options("").batching?.maxBatchSize == 1000, "its default")
      #expect(
        #expect(throws: ServingError.self) { try options("allowed_batch_sizes: [4, 2]") }?.message.contains(
          ":1:1: allowed_batch_sizes must rise") == true)
      #expect(
        #expect(throws: ServingError.self) { try options("max_batch_size { value: 4 }\nallowed_batch_sizes: 2") }?.message
          .contains(":2:1: the last of") == true)
      #expect(
        #expect(throws: ServingError.self) { try options("max_batch_size { value: 0 }") }?.message.contains("must be from 1")
          == true)
    }
  }

  // MARK: Triton

  @Test func tritonsConfigOfAModel() async throws {
    try await withFolder { folder in
      let model = folder + "/add"
      try Adders.put(1, at: model + "/1")
      try "cat\ndog\n".write(toFile: model + "/labels.txt", atomically: true, encoding: .utf8)
      let path = model + "/config.pbtxt"
      try """
      name: "add"
      backend: "apus"
      max_batch_size: 16
      input [
        { name: "x" data_type: TYPE_FP32 dims: [ 128 ] }
      ]
      output [ { name: "output", data_type: TYPE_FP32, dims: [ 128 ], label_filename: "labels.txt" } ]
      version_policy: { all { }}
      dynamic_batching {
        preferred_batch_size: [ 4, 8 ]
        max_queue_delay_microseconds: 100
        preserve_ordering: true
        priority_levels: 2
        default_priority_level: 2
        default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 1000 allow_timeout_override: true max_queue_size: 9 }
        priority_queue_policy [ { key: 1 value: { max_queue_size: 3 } } ]
      }
      instance_group [ { count: 2 kind: KIND_CPU }, { kind: KIND_AUTO } ]
      response_cache { enable: true }
      parameters: { key: "anything" value: { string_value: "goes" } }
      """.write(toFile: path, atomically: true, encoding: .utf8)
      let models = try ModelConfiguration.scan(folder)
      let scanned = try #require(models.first)
      #expect(models.count == 1 && scanned.name == "add" && scanned.path == model && scanned.platform == "apus")
      #expect(scanned.versionPolicy == .all && scanned.classLabels == ["cat", "dog"])
      let scheduling = scanned.scheduling
      #expect(scheduling.batching?.maxBatchSize == 16 && scheduling.batching?.preferredBatchSizes == [4, 8])
      #expect(scheduling.batching?.maxQueueDelay == .microseconds(100) && scheduling.batching?.preservesOrder == true)
      #expect(scheduling.instances == 3 && scheduling.cacheBytes > 0)
      #expect(scheduling.priorityLevels == 2 && scheduling.defaultPriorityLevel == 2)
      #expect(scheduling.queuePolicy.timeoutAction == .delay && scheduling.queuePolicy.defaultTimeout == .milliseconds(1))
      #expect(scheduling.queuePolicy.maxQueueSize == 9 && scheduling.priorityPolicies[1]?.maxQueueSize == 3)
      #expect(try ModelConfiguration.parse(file: path) == models)

      let repository = ModelRepository()
      try await repository.reload(models)
      #expect(try repository.states("add") == [1: .available])
      #expect(try repository.model("add").servable.classLabels == ["cat", "dog"])

      func error(_ text: String) throws -> String {
        try text.write(toFile: path, atomically: true, encoding: .utf8)
        return #expect(throws: ServingError.self) { try ModelConfiguration.scan(folder) }?.message ?? ""
      }
      #expect(try error("name: \"sub\"").contains("config.pbtxt:1:1: the name is 'sub', but the model's folder is 'add'"))
      #expect(
        try error("max_batchsize: 3").contains(":1:1: there is no field 'max_batchsize' here; did you mean 'max_batch_size'?"))
      #expect(try error("\ninstance_group { kind: KIND_GPU }").contains(":2:18: there is no GPU"))
      #expect(try error("dynamic_batching {}").contains("needs a max_batch_size"))
      #expect(try error("ensemble_scheduling {}").contains("is not supported"))
      #expect(try error("input { name: 'x' data_type: TYPE_F32 }").contains("did you mean TYPE_FP32?"))
      #expect(try error("output { name: 'x' label_filename: '../../etc/passwd' }").contains("not in the model's folder"))

      // What the configuration promises is compared with the model.
      for (text, message) in [
        ("input { name: 'y' }", "the configuration has the input 'y', but the model's are x"),
        (
          "input { name: 'x' data_type: TYPE_INT64 }",
          "the configuration's input 'x' is int64, but the model's is float32[batch, 128]"
        ),
        ("max_batch_size: 4 input { name: 'x' dims: [-1] }", "has the dimensions [-1] and that of a batch, but the model's is"),
        ("input { name: 'x' dims: [128] }", "has the dimensions [128], but the model's is float32[batch, 128]"),
      ] {
        try text.write(toFile: path, atomically: true, encoding: .utf8)
        let other = ModelRepository()
        try await other.reload(ModelConfiguration.scan(folder))
        #expect(try other.states("add") == [1: .end])
        let error = try other.error("add", 1) ?? "none"
        #expect(error.contains(message), "\(error)")
      }
    }
  }

  // MARK: Our own

  @Test func settingsInJSON() throws {
    let text = """
      {
        "mode": "polling", "polling_interval_seconds": 0.5,
        "models": [
          {"name": "digits", "path": "digits", "versions": "latest:2", "labels": {"stable": 3},
           "batching": {"max_batch_size": 8, "allowed_batch_sizes": [1, 4, 8], "max_queue_delay_ms": 1.5, "pads_variable_lengths": true},
           "instances": 2, "limits": {"max_request_bytes": 1000, "max_queue_size": 7}, "cache_bytes": 4096,
           "priority_levels": 3, "default_priority_level": 2, "queue": {"default_timeout_ms": 20, "timeout_action": "delay"},
           "class_labels": ["a", "b"], "warm_up": "generated"},
          {"path": "/m/net.apus", "versions": [1, 3]},
          {"path": "other/", "versions": "all"}
        ]
      }
      """
    let file = try RepositoryConfiguration(text: text, file: "/srv/serve.json")
    #expect(file.mode == .polling(.milliseconds(500)))
    let models = file.models
    #expect(
      models.map(\.name) == ["digits", "net", "other"] && models.map(\.path) == ["/srv/digits", "/m/net.apus", "/srv/other/"])
    #expect(models.map(\.versionPolicy) == [.latest(2), .specific([1, 3]), .all])
    let first = models[0]
    #expect(first.labels == ["stable": 3] && first.classLabels == ["a", "b"] && first.warmUp == .generated)
    #expect(first.maxRequestBytes == 1000 && first.scheduling.maxQueueSize == 7 && first.scheduling.cacheBytes == 4096)
    #expect(first.scheduling.batching?.allowedBatchSizes == [1, 4, 8])
    #expect(first.scheduling.batching?.maxQueueDelay == .microseconds(1500))
    #expect(first.scheduling.instances == 2 && first.scheduling.priorityLevels == 3)
    #expect(first.scheduling.queuePolicy.timeoutAction == .delay)
  }

  @Test(arguments: [
    (#"{"models": [{"path": "a", "version": "all"}]}"#, "'models[0].version' is no setting: did you mean 'versions'?"),
    (#"{"modls": []}"#, "'modls' is no setting: did you mean 'models'?"),
    (#"{"models": {}}"#, "'models' must be a list of models"),
    (#"{"models": [{"name": "a"}]}"#, "'models[0].path' is missing"),
    (#"{"models": [{"path": "a", "versions": "latest:0"}]}"#, "'models[0].versions' must name how many"),
    (#"{"models": [{"path": "a", "versions": []}]}"#, "'models[0].versions' is an empty list"),
    (#"{"models": [{"path": "a", "versions": [-1]}]}"#, "must be a list of whole numbers from 0"),
    (
      #"{"models": [{"path": "a", "batching": {"max_batchsize": 3}}]}"#,
      "'models[0].batching.max_batchsize' is no setting: did you mean 'max_batch_size'?"
    ),
    (#"{"models": [{"path": "a", "instances": 0}]}"#, "'models[0].instances' must be a whole number from 1"),
    (#"{"models": [{"path": "a", "instances": 1e30}]}"#, "'models[0].instances' must be a whole number from 1"),
    (#"{"models": [{"path": "a", "name": "../a"}]}"#, "'../a' cannot be the name of a model"),
    (#"{"models": [{"path": "a", "name": "a\u0000b"}]}"#, "cannot be the name of a model"),
    (#"{"models": [{"path": "a"}, {"path": "b/a"}]}"#, "two models are called 'a'"),
    (#"{"models": [], "mode": "auto"}"#, "'mode' must be fixed, polling or explicit, got 'auto'"),
    ("{\"models\": [\n  {\"path\" \"a\"}]}", "s.json:2:11: JSON:"),
    (#"{"models": [], "models": []}"#, "s.json:1:16:"),
  ])
  func badSettings(_ text: String, _ message: String) {
    let error = #expect(throws: ServingError.self) { try RepositoryConfiguration(text: text, file: "s.json") }
    #expect(error?.message.contains(message) == true, "\(error?.message ?? "")")
  }

  // MARK: Folders

  @Test func aFolderOfModels() async throws {
    try await withFolder { folder in
      try Adders.put(1, at: folder + "/b/1")
      try Adders.put(2, at: folder + "/b/3")
      try FileManager.default.copyItem(atPath: Adders.artifact(3), toPath: folder + "/a.apus")
      for other in [".hidden/1", "notes", "empty"] {
        try FileManager.default.createDirectory(atPath: folder + "/" + other, withIntermediateDirectories: true)
      }
      try "text".write(toFile: folder + "/README", atomically: true, encoding: .utf8)
      let models = try ModelConfiguration.scan(folder)
      #expect(models.map(\.name) == ["a", "b"])
      let repository = ModelRepository()
      try await repository.reload(models)
      #expect(try await repository.number("a") == 3)
      #expect(try await repository.number("b") == 2)
      #expect(
        #expect(throws: ServingError.self) { try ModelConfiguration.scan(folder + "/b") }?.message.contains(
          "is the folder of one model") == true)
      #expect(#expect(throws: ServingError.self) { try ModelConfiguration.scan(folder + "/README") }?.code == .invalidArgument)
      #expect(#expect(throws: ServingError.self) { try ModelConfiguration.scan(folder + "/none") }?.code == .notFound)
      #expect(#expect(throws: ServingError.self) { try ModelConfiguration.single(folder + "/none.apus") }?.code == .notFound)
      #expect(#expect(throws: ServingError.self) { try ModelConfiguration.single(folder + "/README") }?.code == .invalidArgument)
      #expect(throws: ServingError.self) { try ModelConfiguration.scan("a\0b") }
      // The same name twice.
      try Adders.put(2, at: folder + "/a/1")
      #expect(#expect(throws: ServingError.self) { try ModelConfiguration.scan(folder) }?.code == .alreadyExists)
    }
  }
}
