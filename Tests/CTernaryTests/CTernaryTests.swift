import Testing
import CTernary

@Test func moduleLoads() {}
