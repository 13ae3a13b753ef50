// Package export_tidegate_gateway_throttle is what the generated exports call.
package export_tidegate_gateway_throttle

import (
	"tidegate"
	host "tidegate/bindings/tidegate_gateway_throttle"

	types "go.bytecodealliance.org/pkg/wit/types"
)

// Admit asks the plugin.
func Admit(given []types.Option[string]) types.Result[host.Admission, string] {
	tidegate.Handed = tidegate.RecordOf(given)
	plugin, is := tidegate.Current.(tidegate.Throttle)
	if !is {
		return types.Err[host.Admission, string]("the plugin has no method Admit() (tidegate.Admission, error)")
	}
	admission, err := plugin.Admit()
	if err != nil {
		return types.Err[host.Admission, string](err.Error())
	}
	switch admission.Kind {
	case tidegate.AdmissionReject:
		return types.Ok[host.Admission, string](host.MakeAdmissionReject(admission.RetryMs))
	case tidegate.AdmissionExceeded:
		return types.Ok[host.Admission, string](host.MakeAdmissionExceeded(admission.RetryMs))
	default:
		return types.Ok[host.Admission, string](host.MakeAdmissionAdmit())
	}
}
