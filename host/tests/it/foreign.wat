;; A plugin that no SDK has a part in: what wit/ says, in the core module's terms of the component model.
;;
;; It has the operation `add`, which adds its config to each element, and the monoid `sum`. All of them are single bytes,
;; which wrap, in Postcard.
(module
    (import "palfrey:plugin/context@0.1.0" "log"
        (func $log (param $level i32) (param $target i32) (param $target-length i32) (param $message i32) (param $length i32)))

    (memory (export "memory") 2)
    (global $heap (mut i32) (i32.const 65536))

    ;; Where arguments go: one behind the other, each at a multiple of eight.
    (func (export "cabi_realloc")
        (param $old i32) (param $old-size i32) (param $align i32) (param $size i32) (result i32)
        (global.set $heap (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
        (global.get $heap)
        (global.set $heap (i32.add (global.get $heap) (local.get $size))))

    ;; describe() -> description
    (func (export "palfrey:plugin/operations@0.1.0#describe") (result i32) (i32.const 2048))

    ;; map(operation, config, encoding, inputs) -> map-outcome
    ;; Each element is one byte and stays one, so that the inputs become the outputs where they are.
    (func (export "palfrey:plugin/operations@0.1.0#map")
        (param $operation i32) (param $operation-length i32) (param $config i32) (param $config-length i32)
        (param $encoding i32) (param $encoding-length i32)
        (param $bytes i32) (param $bytes-length i32) (param $ends i32) (param $elements i32) (result i32)
        (local $next i32)
        (call $log (i32.const 2) (i32.const 1100) (i32.const 3) (i32.const 1112) (i32.const 22)) ;; info
        (block $done
            (loop $again
                (br_if $done (i32.ge_u (local.get $next) (local.get $bytes-length)))
                (i32.store8
                    (i32.add (local.get $bytes) (local.get $next))
                    (i32.add
                        (i32.load8_u (i32.add (local.get $bytes) (local.get $next)))
                        (i32.load8_u (local.get $config))))
                (local.set $next (i32.add (local.get $next) (i32.const 1)))
                (br $again)))
        (i32.store (i32.const 4096) (local.get $bytes))
        (i32.store (i32.const 4100) (local.get $bytes-length))
        (i32.store (i32.const 4104) (local.get $ends))
        (i32.store (i32.const 4108) (local.get $elements))
        (i32.store8 (i32.const 4112) (i32.const 0)) ;; no failure
        (i32.const 4096))

    ;; fold(monoid, config, encoding, inputs) -> result<list<u8>, element-failure>
    (func (export "palfrey:plugin/operations@0.1.0#fold")
        (param $monoid i32) (param $monoid-length i32) (param $config i32) (param $config-length i32)
        (param $encoding i32) (param $encoding-length i32)
        (param $bytes i32) (param $bytes-length i32) (param $ends i32) (param $elements i32) (result i32)
        (local $next i32)
        (local $sum i32)
        (block $done
            (loop $again
                (br_if $done (i32.ge_u (local.get $next) (local.get $bytes-length)))
                (local.set $sum
                    (i32.add (local.get $sum) (i32.load8_u (i32.add (local.get $bytes) (local.get $next)))))
                (local.set $next (i32.add (local.get $next) (i32.const 1)))
                (br $again)))
        (call $ok (local.get $sum)))

    ;; empty(monoid, config, encoding) -> result<list<u8>, failure>
    (func (export "palfrey:plugin/operations@0.1.0#empty")
        (param $monoid i32) (param $monoid-length i32) (param $config i32) (param $config-length i32)
        (param $encoding i32) (param $encoding-length i32) (result i32)
        (call $ok (i32.const 0)))

    ;; A result with one byte.
    (func $ok (param $byte i32) (result i32)
        (i32.store8 (i32.const 4400) (local.get $byte))
        (i32.store8 (i32.const 4096) (i32.const 0)) ;; ok
        (i32.store (i32.const 4104) (i32.const 4400))
        (i32.store (i32.const 4108) (i32.const 1))
        (i32.const 4096))

    (data (i32.const 1024) "foreign")
    (data (i32.const 1032) "1.0.0")
    (data (i32.const 1040) "add")
    (data (i32.const 1044) "sum")
    (data (i32.const 1048) "Adds its config.")
    (data (i32.const 1064) "Adds.")
    (data (i32.const 1072) "postcard")
    (data (i32.const 1080) "\30\04\00\00\08\00\00\00") ;; the encodings
    (data (i32.const 1100) "wat")
    (data (i32.const 1112) "written without an SDK")

    ;; The description: name, version, operations.
    (data (i32.const 2048) "\00\04\00\00\07\00\00\00" "\08\04\00\00\05\00\00\00" "\00\0c\00\00\02\00\00\00")
    ;; Each operation: name, kind, summary, encodings, no schema of config, input and output, no needs.
    (data (i32.const 3072) "\10\04\00\00\03\00\00\00" "\00\00\00\00" "\18\04\00\00\10\00\00\00" "\38\04\00\00\01\00\00\00")
    (data (i32.const 3144) "\14\04\00\00\03\00\00\00" "\01\00\00\00" "\28\04\00\00\05\00\00\00" "\38\04\00\00\01\00\00\00"))
