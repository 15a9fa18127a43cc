package control

import (
	"context"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/stream"
)

// The bounds of what one message shows of the bridge.
const (
	maxRegistrations     = 1000
	maxPendingDeliveries = 1000
)

// kalturaBridgeService serves klive.v1.KalturaBridgeService.
type kalturaBridgeService struct {
	klivev1.UnimplementedKalturaBridgeServiceServer
	bridge     stream.Bridge     // nil: there is none
	deliveries stream.Deliveries // nil: nothing is delivered
}

func errBridgeOff() error {
	return fault.New(fault.BridgeOff, "this server has no Kaltura backend; set kaltura.mode in its configuration")
}

func (s *kalturaBridgeService) GetKalturaBridge(_ context.Context, r *klivev1.GetKalturaBridgeRequest) (*klivev1.KalturaBridge, error) {
	if err := s.check(r.GetName()); err != nil {
		return nil, err
	}
	return s.describe(), nil
}

func (s *kalturaBridgeService) ResyncKalturaBridge(ctx context.Context, r *klivev1.ResyncKalturaBridgeRequest) (*klivev1.KalturaBridge, error) {
	if err := s.check(r.GetName()); err != nil {
		return nil, err
	}
	if err := s.bridge.Resync(ctx); err != nil {
		return nil, err
	}
	return s.describe(), nil
}

func (s *kalturaBridgeService) check(name string) error {
	if err := checkSingleton(name, bridgeName); err != nil {
		return err
	}
	if s.bridge == nil {
		return errBridgeOff()
	}
	return nil
}

func (s *kalturaBridgeService) describe() *klivev1.KalturaBridge {
	status := s.bridge.Status()
	var open []stream.Delivery
	if s.deliveries != nil {
		open = s.deliveries.Open()
	}
	return bridgeProto(&status, open)
}
