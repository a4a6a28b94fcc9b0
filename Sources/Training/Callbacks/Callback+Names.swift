// The callbacks by short names: `callbacks: [.modelCheckpoint("best"), .earlyStopping(patience: 2)]`.

extension Callback {
  /// ``ModelCheckpoint``. Unlike there, only the best is saved by default where all go by one name.
  public static func modelCheckpoint(
    _ filepath: String, monitor: String = "val_loss", saveBestOnly: Bool? = nil, mode: MonitorMode = .automatic,
    saveFrequency: ModelCheckpoint.SaveFrequency = .epoch, keep: Int? = nil, verbose: Bool = false
  ) -> Callback {
    ModelCheckpoint(
      filepath, monitor: monitor, verbose: verbose, saveBestOnly: saveBestOnly ?? !filepath.contains("{"), mode: mode,
      saveFrequency: saveFrequency, keep: keep)
  }

  /// ``EarlyStopping``
  public static func earlyStopping(
    monitor: String = "val_loss", minDelta: Double = 0, patience: Int = 0, mode: MonitorMode = .automatic,
    baseline: Double? = nil, restoreBestWeights: Bool = false, startFromEpoch: Int = 0, verbose: Bool = false
  ) -> Callback {
    EarlyStopping(
      monitor: monitor, minDelta: minDelta, patience: patience, verbose: verbose, mode: mode, baseline: baseline,
      restoreBestWeights: restoreBestWeights, startFromEpoch: startFromEpoch)
  }

  /// ``BackupAndRestore``
  public static func backupAndRestore(
    _ folder: String, saveFrequency: BackupAndRestore.Frequency = .epoch, keep: Int = 2, deleteCheckpoint: Bool = true
  ) -> Callback {
    BackupAndRestore(folder, saveFrequency: saveFrequency, keep: keep, deleteCheckpoint: deleteCheckpoint)
  }

  /// ``ReduceLROnPlateau``
  public static func reduceLROnPlateau(
    monitor: String = "val_loss", factor: Double = 0.1, patience: Int = 10, mode: MonitorMode = .automatic,
    minDelta: Double = 1e-4, cooldown: Int = 0, minLR: Double = 0, verbose: Bool = false
  ) -> Callback {
    ReduceLROnPlateau(
      monitor: monitor, factor: factor, patience: patience, verbose: verbose, mode: mode, minDelta: minDelta, cooldown: cooldown,
      minLR: minLR)
  }

  /// ``LearningRateScheduler``
  public static func learningRateScheduler(_ schedule: @escaping (_ epoch: Int, _ learningRate: Double) -> Double) -> Callback {
    LearningRateScheduler(schedule)
  }

  /// ``CSVLogger``
  public static func csvLogger(_ filename: String, separator: String = ",", append: Bool = false) -> Callback {
    CSVLogger(filename, separator: separator, append: append)
  }

  /// ``TerminateOnNaN``
  public static func terminateOnNaN() -> Callback { TerminateOnNaN() }

  /// ``EMAWeightAveraging``
  public static func emaWeightAveraging(decay: Double = 0.999) -> Callback { EMAWeightAveraging(decay: decay) }

  /// ``StochasticWeightAveraging``
  public static func stochasticWeightAveraging(
    swaLearningRate: Double, swaEpochStart: StochasticWeightAveraging.Start = .fraction(0.8)
  ) -> Callback {
    StochasticWeightAveraging(swaLearningRates: [swaLearningRate], swaEpochStart: swaEpochStart)
  }

  /// ``LearningRateFinder``
  public static func learningRateFinder() -> Callback { LearningRateFinder() }

  /// ``TrainingTimer``
  public static func timer(duration: Double) -> Callback { TrainingTimer(duration: duration) }

  /// ``LearningRateMonitor``
  public static func learningRateMonitor() -> Callback { LearningRateMonitor() }

  /// ``ThroughputMonitor``
  public static func throughputMonitor() -> Callback { ThroughputMonitor() }
}
