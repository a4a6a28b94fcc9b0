// The umbrella: everything a user of Apus needs with one import.
@_exported import ApusData
@_exported import ApusExport
@_exported import ApusFormats
@_exported import ApusModels
@_exported import ApusNN
@_exported import ApusTensor
@_exported import ApusText
@_exported import ApusTraining
