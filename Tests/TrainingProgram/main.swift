// What KillTests starts, kills and starts again: a training with everything that has state. Writes the final weights, history and
// learning rate to one file, so that two runs can be compared byte by byte.
import ApusData
import ApusFormats
import ApusNN
import ApusTensor
import ApusTraining
import Foundation

Interruption.install()
guard CommandLine.arguments.count == 3 else { fatalError("usage: TrainingProgram BACKUP RESULT") }
let (backup, result) = (CommandLine.arguments[1], CommandLine.arguments[2])

seed(11)
let examples = Generator(seed: 1)
let x = Tensor.randn([70, 6], generator: examples)
let y = x.matmul(Tensor.randn([6, 2], generator: examples)) + Tensor.randn([70, 2], generator: examples) * 0.1
let model = Sequential {
  Linear(6, 16)
  BatchNorm1d(16)
  ReLU()
  Dropout(0.2)
  Linear(16, 2)
}
let optimizer = AdamW(model.parameters, learningRate: 0.05)
let options = TrainerOptions {
  $0.gradientAccumulation = 2
  $0.clipping = .norm(1)
}
let trainer = Trainer(model, optimizer: optimizer, loss: mseLoss, options: options)
let loader = DataLoader(TensorDataset(x[..<54], y[..<54]), batchSize: 8, shuffle: true, workers: 2, seed: 5)
let validation = TensorDataset(x[54...], y[54...])
let history: History
do {
  history = try await trainer.fit(
    loader, epochs: 4, validation: validation,
    callbacks: [
      LambdaCallback(onEpochBegin: { epoch, trainer in trainer.optimizer.learningRate *= 0.9 }),
      ReduceLROnPlateau(monitor: "val_loss", factor: 0.5, patience: 1, minDelta: 0.05),
      EarlyStopping(monitor: "val_loss", patience: 3, restoreBestWeights: true),
      BackupAndRestore(backup, saveFrequency: .steps(4), deleteCheckpoint: false),
    ], verbose: .silent)
} catch is CancellationError {
  exit(130)
}

var tensors = model.state
for (name, variable) in optimizer.state { tensors["optimizer/" + name] = variable.value }
for (name, values) in history.values { tensors["history/" + name] = Tensor(values, shape: [values.count]) }
tensors["learning rate"] = Tensor([optimizer.learningRate], shape: [])
let words = Generator.default.state
tensors["random"] = Tensor([Int64(bitPattern: words.key), Int64(bitPattern: words.counter)], shape: [2])
try saveTensors(tensors, to: result)
