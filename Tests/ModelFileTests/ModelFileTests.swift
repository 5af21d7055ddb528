import Testing
import ModelFile

@Test func moduleLoads() {}
