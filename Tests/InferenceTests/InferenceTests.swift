import Testing
import Inference

@Test func moduleLoads() {}
