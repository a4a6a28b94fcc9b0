// Event and Summary as TensorFlow's protocol buffers: tensorflow/core/util/event.proto, framework/summary.proto. Scalars, histograms,
// images and sound have the forms that all of TensorBoard's versions and its `EventAccumulator` read, which are PyTorch's, too.

extension Event {
  /// The serialized message.
  package var message: [UInt8] {
    var out = ProtobufWriter()
    out.put(1, wallTime)
    if step != 0 { out.put(2, step) }
    switch content {
    case .version(let text): out.put(3, text)
    case .graph(let bytes): out.put(4, bytes)
    case .summaries(let summaries): out.put(5) { out in for summary in summaries { out.put(1, summary.write) } }
    case .other: break
    }
    return out.bytes
  }
}

extension EventSummary {
  fileprivate func write(to out: inout ProtobufWriter) {
    out.put(1, tag)
    switch value {
    case .scalar(let value): out.put(2, value)
    case .image(let image):
      out.put(4) { out in
        out.put(1, image.height)
        out.put(2, image.width)
        out.put(3, 3)
        out.put(4, image.files.first ?? [])
      }
    case .histogram(let histogram): out.put(5, histogram.write)
    case .audio(let audio):
      out.put(6) { out in
        out.put(1, audio.sampleRate)
        out.put(2, audio.channels)
        out.put(3, audio.frames)
        out.put(4, audio.file)
        out.put(5, "audio/wav")
      }
    case .text(let texts):
      writeMetadata(to: &out, plugin: "text", content: [])
      out.put(8) { out in
        out.put(1, TensorFlowType.string)
        out.put(2) { $0.put(2) { $0.put(1, texts.count) } }
        for text in texts { out.put(8, text) }
      }
    case .hyperparameters(let record):
      writeMetadata(to: &out, plugin: "hparams", content: record.message)
      // TensorBoard wants a value beside the metadata, and looks at none.
      out.put(8) { out in
        out.put(1, TensorFlowType.float)
        out.put(2) { $0.put(2) { $0.put(1, 1) } }
        out.put(5, Float(0))
      }
    case .other: break
    }
  }

  private func writeMetadata(to out: inout ProtobufWriter, plugin: String, content: [UInt8]) {
    out.put(9) { out in
      out.put(1) { out in
        out.put(1, plugin)
        if !content.isEmpty { out.put(2, content) }
      }
      // The class of data: a tensor.
      out.put(4, 2)
    }
  }
}

/// Numbers of `DataType` in tensorflow/core/framework/types.proto.
enum TensorFlowType {
  static let float = 1
  static let double = 2
  static let string = 7
}

extension Histogram {
  fileprivate func write(to out: inout ProtobufWriter) {
    out.put(1, minimum)
    out.put(2, maximum)
    out.put(3, count)
    out.put(4, sum)
    out.put(5, sumOfSquares)
    // A bucket begins where the one before ends; where there is a hole, or before the first, an empty one says so.
    var (limits, counts): ([Double], [Double]) = ([], [])
    for bucket in buckets {
      if limits.last != bucket.lower {
        limits.append(bucket.lower)
        counts.append(0)
      }
      limits.append(bucket.upper)
      counts.append(bucket.count)
    }
    out.put(6, limits)
    out.put(7, counts)
  }
}

extension HyperparameterRecord {
  /// The tag that the plugin looks for.
  package var tag: String {
    switch self {
    case .experiment: "_hparams_/experiment"
    case .start: "_hparams_/session_start_info"
    case .end: "_hparams_/session_end_info"
    }
  }

  /// `HParamsPluginData` of tensorboard/plugins/hparams/plugin_data.proto.
  fileprivate var message: [UInt8] {
    var out = ProtobufWriter()
    switch self {
    case .experiment(let parameters, let metrics):
      out.put(2) { out in
        for (name, value) in parameters.sorted(by: { $0.key < $1.key }) {
          out.put(4) { out in
            out.put(1, name)
            out.put(4, value.dataType)
          }
        }
        for tag in metrics { out.put(5) { $0.put(1) { $0.put(2, tag) } } }
      }
    case .start(let parameters, let group, let time):
      out.put(3) { out in
        for (name, value) in parameters.sorted(by: { $0.key < $1.key }) {
          out.put(1) { out in
            out.put(1, name)
            out.put(2, value.write)
          }
        }
        if !group.isEmpty { out.put(4, group) }
        out.put(5, time)
      }
    case .end(let status, let time):
      out.put(4) { out in
        out.put(1, status.rawValue)
        out.put(2, time)
      }
    }
    return out.bytes
  }
}

extension Hyperparameter {
  /// `DataType` of tensorboard/plugins/hparams/api.proto.
  fileprivate var dataType: Int {
    switch self {
    case .text: 1
    case .flag: 2
    case .number: 3
    }
  }

  /// `google.protobuf.Value`.
  fileprivate func write(to out: inout ProtobufWriter) {
    switch self {
    case .number(let value): out.put(2, value)
    case .text(let value): out.put(3, value)
    case .flag(let value): out.put(4, value)
    }
  }
}
