import Testing
import Basics

@Test func moduleLoads() {}
